"""Fixtures that several tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell that runs the tests in the background has them ignore SIGINT, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The models here are tiny: where the cores are busy, a second thread is waited for longer than it helps. Before torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A loaded machine may take any time for an example, and a run must not differ from the one before.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def ros() -> Iterator[None]:
    """The default context of rclpy, for tests that are nodes themselves."""
    rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)  # Ctrl-C is pytest's
    yield
    rclpy.shutdown()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of the tiny config. Read only: copy it to change it."""
    from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    make_checkpoint("tiny", folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def sample_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of the simulated robot at its task, MCAP, 4 s. Read only: copy it to change it."""
    for package in ("rosbags", "gym_aloha"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    folder = tmp_path_factory.mktemp("bag") / "sample"
    # In a process of its own: the renderer and torch crash each other.
    command = [sys.executable, "-m", "pi0_ttnn_ros.aloha.sample_bag", "--out", str(folder), "--seconds", "4"]
    subprocess.run(command, check=True)
    return folder
