"""Run cases that open the mock in a process of their own: TTNN opens one device only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def assert_cases_pass(name: str, count: int, folder: Path) -> None:
    """Run the cases of a file of this folder, with caches in `folder`, and assert that `count` of them pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).with_name(name))]
    environment = os.environ | {"PI0_TTNN_CACHE": str(folder / "cache")}
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert run.returncode == 0 and f"{count} passed" in run.stdout, run.stdout[-4000:] + run.stderr[-2000:]
