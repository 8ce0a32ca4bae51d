"""A capture that raises leaves no trace behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from device_cases import needs_wormhole

pytestmark = needs_wormhole


def test_failed_capture_releases_its_trace(tmp_path):
    """After a capture that raises, no trace holds memory, and the next model is captured and runs."""
    program = Path(__file__).parent / "failed_capture.py"
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    result = json.loads(run.stderr.splitlines()[-1])
    before, failed, captured, closed = result["memory"]
    assert result["raised"] == "injected"
    assert before == failed == closed == 0 < captured
    assert result["doubled"]
