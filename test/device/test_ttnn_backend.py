"""The whole model on a Wormhole, card or simulator, against the float32 reference: as a user runs it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from peer_cases import ALL, Case, model_arrays
from pi0_ttnn_core.configs import CONFIGS
from pi0_ttnn_core.random_checkpoint import make_checkpoint
from pi0_ttnn_core.wormhole import find_wormhole

WORMHOLE = find_wormhole()
pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(isinstance(WORMHOLE, str), reason=f"no Wormhole: {WORMHOLE}"),
]
# Of the ten-step actions, and of how far they are from the noise, which alone would correlate.
PCC = 0.998


def infer(folder, tmp_path, arrays, backend: str) -> np.ndarray:
    """In a process of its own: the simulator ends the process where it meets what it does not know."""
    np.savez(tmp_path / "in.npz", **arrays)
    out = tmp_path / f"{backend}.npy"
    command = ["infer", "--checkpoint", folder, "--inputs", tmp_path / "in.npz", "--out", out, "--backend", backend]
    run = subprocess.run(
        [sys.executable, "-m", "pi0_ttnn_core.cli", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return np.load(out)


@pytest.mark.parametrize(
    ("config_name", "case"),
    [
        ("tiny", Case((ALL, (True, False, True)), (17, 5))),
        ("tiny_pi05", Case(((False, True, True),), (60,))),
    ],
    ids=["pi0_batch_of_two", "pi05_without_base_camera"],
)
def test_ten_step_actions_are_the_references(tmp_path, config_name, case):
    make_checkpoint(config_name, tmp_path / "checkpoint", seed=0)
    arrays = model_arrays(case, CONFIGS[config_name])
    expected, actions = (infer(tmp_path / "checkpoint", tmp_path, arrays, name) for name in ("torch", "ttnn"))
    assert actions.shape == expected.shape and np.isfinite(actions).all()
    for row in range(len(actions)):
        moved = [(values[row] - arrays["noise"][row]).ravel() for values in (actions, expected)]
        assert np.corrcoef(actions[row].ravel(), expected[row].ravel())[0, 1] >= PCC
        assert np.corrcoef(*moved)[0, 1] >= PCC
