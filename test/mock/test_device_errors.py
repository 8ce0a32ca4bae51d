"""Errors of ttnn: the cases of `device_error_cases.py`, on a mock Wormhole."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("ttnn") is None, reason="ttnn is not installed")


def test_device_errors(tmp_path):
    """All cases of `device_error_cases`, in a process that may open the mock."""
    cases = Path(__file__).parent / "device_error_cases.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    environment = os.environ | {"PI0_TTNN_CACHE": str(tmp_path / "cache")}
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert run.returncode == 0 and "3 passed" in run.stdout, run.stdout[-4000:] + run.stderr[-2000:]
