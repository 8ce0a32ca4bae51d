"""Shared by tests on a Wormhole: whether there is one, models of odd sizes, and requests sent from a subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pi0_ttnn_core.configs import PI0, GemmaConfig, PI0Config, VisionConfig
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_core.wormhole import find_wormhole

WORMHOLE = find_wormhole()
needs_wormhole = [
    pytest.mark.device,
    pytest.mark.skipif(isinstance(WORMHOLE, str), reason=f"no Wormhole: {WORMHOLE}"),
]

# Sizes are not whole numbers of tiles unless they have to be; horizon and prompt have unusual sizes.
ODD = replace(
    PI0,
    vision=VisionConfig(width=288, depth=2, mlp_dim=272, num_heads=4, patch_size=28, image_size=112),
    prefix=GemmaConfig(width=256, depth=2, mlp_dim=528, num_heads=4, num_kv_heads=1, head_dim=64),
    expert=GemmaConfig(width=160, depth=2, mlp_dim=272, num_heads=4, num_kv_heads=1, head_dim=64),
    vocab_size=300,
    action_horizon=20,
    max_prompt_tokens=23,
)
ODD_PI05 = replace(ODD, pi05=True, max_prompt_tokens=41)


@dataclass(frozen=True)
class Request:
    """One request to the backend.

    Attributes:
        arrays: the arrays of ModelInputs.
        num_steps: requested Euler steps.
        l1_is_full: whether something else fills the cores' L1.
        target: normalised.
    """

    arrays: dict[str, np.ndarray]
    num_steps: int
    l1_is_full: bool = False
    target: GuidanceTarget | None = None


def send_requests(
    checkpoint: Path, requests: list[Request], folder: Path, traced: bool = True, guided: bool = False
) -> list[np.ndarray | str]:
    """Send requests to one backend, one after the other; return the actions, or the message of a refusal.

    The backend is loaded with guidance if `guided`. It runs in a subprocess: the simulator ends its process on an op
    that it does not support.
    """
    folder.mkdir()
    for number, request in enumerate(requests):
        options = {"num_steps": request.num_steps, "l1_is_full": request.l1_is_full}
        target = {} if request.target is None else {f"target_{key}": x for key, x in vars(request.target).items()}
        np.savez(folder / f"{number}.npz", **request.arrays, **options, **target)
    # Not the user's cache of converted weights.
    environment = {**os.environ, "PI0_TTNN_CACHE": str(checkpoint.parent / "cache")}
    script = Path(__file__).with_name("run_requests.py")
    modes = "traced" if traced else "op by op", "guided" if guided else "free"
    command = [sys.executable, script, checkpoint, folder, *modes]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return [_response(folder, number) for number in range(len(requests))]


def _response(folder: Path, number: int) -> np.ndarray | str:
    refusal = folder / f"{number}.txt"
    return refusal.read_text(encoding="utf-8") if refusal.exists() else np.load(folder / f"{number}.npy")


def random_arrays(config: PI0Config, cameras: list[list[bool]], tokens: list[int]) -> dict[str, np.ndarray]:
    """Return a batch, given the present cameras and the prompt's length of each row."""
    random = np.random.default_rng([len(cameras), *tokens])
    batch, length, size = len(tokens), max(tokens), config.vision.image_size
    return {
        "images": random.uniform(-1, 1, (batch, len(cameras[0]), 3, size, size)).astype(np.float32),
        "image_masks": np.array(cameras),
        "tokens": random.integers(3, config.vocab_size, (batch, length)).astype(np.int32),
        "token_mask": np.arange(length) < np.array(tokens)[:, None],
        "state": random.standard_normal((batch, config.action_dim)).astype(np.float32),
        "noise": random.standard_normal((batch, config.action_horizon, config.action_dim)).astype(np.float32),
    }
