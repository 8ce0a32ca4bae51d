"""`ros2 launch pi0_ttnn_ros replay.launch.py`, as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from support.reasons import OVERLAY

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
if shutil.which("ros2") is None:
    pytest.skip(OVERLAY, allow_module_level=True)

from support.bags import LENIENT, PARAMETERS, messages, write_bag
from support.waiting import TIMEOUT


@pytest.fixture(scope="module")
def launch(tmp_path_factory, tiny_checkpoint):
    """Replay a short bag; return the exit status of `ros2 launch`, the report and what was said."""
    folder = tmp_path_factory.mktemp("launch")
    bag = write_bag(folder / "bag", messages(0.6))

    def run(parameters: str, out: str, *arguments: str) -> tuple[int, dict, str]:
        robot = folder / f"{out}.yaml"
        robot.write_text(parameters)
        given = {"bag": bag, "robot": robot, "checkpoint": tiny_checkpoint, "out": folder / out}
        words = [f"{name}:={value}" for name, value in given.items()]
        command = ["ros2", "launch", "pi0_ttnn_ros", "replay.launch.py", *words, *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        report = folder / out / "report.json"
        return ended.returncode, json.loads(report.read_text()) if report.exists() else {}, ended.stdout + ended.stderr

    return run


def test_replay_launch_exit_status(launch):
    """The exit status of the launch is the verdict on the replay."""
    status, report, said = launch(PARAMETERS + LENIENT, "passes")
    assert (status, report["passed"]) == (0, True), said
    status, report, said = launch(PARAMETERS, "fails")
    assert (status, report["passed"]) == (1, False), said


def test_replay_launch_live(launch):
    """`mode:=live` starts the node, plays the bag to it and judges its commands."""
    patient = (
        "    image_timeout: 10.0\n    joint_state_timeout: 10.0\n    max_jump_time: 5.0\n    sync_tolerance: 1.0\n"
    )
    status, report, said = launch(PARAMETERS + patient + LENIENT, "live", "mode:=live")
    assert (status, report["passed"]) == (0, True), said
    assert report["summary"]["commands"]["count"] > 10
    assert report["summary"]["commands"]["violations"] == {}
