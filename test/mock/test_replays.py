"""A thousand inferences: memory does not grow, and no torch runs between upload and result."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("ttnn") is None, reason="ttnn is not installed")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("replays")
    command = [sys.executable, str(Path(__file__).parent / "replays.py"), "tiny", str(folder / "out.json")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return json.loads((folder / "out.json").read_text())


def test_memory_stays_flat(replayed):
    """A thousand inferences take no more memory than one."""
    before, after = replayed["before"], replayed["after"]
    assert after["DRAM"] == before["DRAM"] > 0 and after["L1"] == before["L1"]
    assert after["host"] < before["host"] + 20 * 2**20


def test_forward_calls_no_torch(replayed):
    """The forward pass calls no torch function."""
    assert replayed["torch_calls_seen"] > 0
    assert replayed["torch_calls"] == []
