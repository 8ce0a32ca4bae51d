"""What the bench of replay measures: that both sides do what is said of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")


def test_bench_replay_decoding():
    """Replay decodes the images that it needs, rosbags and OpenCV all of them."""
    command = [
        sys.executable,
        "-m",
        "pi0_ttnn_ros.cli.main",
        "bench",
        "replay-decoding",
        "--seconds",
        "2",
        "--repeats",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    sides = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    # 3 cameras at 10 and at 30 Hz; the first images come with the first joint states.
    assert "60 images decoded" in sides["replay, 1 thread"]
    assert "180 images decoded" in sides["rosbags and OpenCV"]
    assert "times real time" in sides["replay, 1 thread"]
