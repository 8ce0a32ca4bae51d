"""The memory that a process takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def peak_memory(pid: int) -> float:
    """Return the largest resident memory that a process has had, MiB.

    Unlike `ru_maxrss`, which a child begins with what its parent has.
    """
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def run_python(program: str, *arguments: str) -> str:
    """Run a program in a process of its own that imports what the tests import; return what it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
