"""record.launch.py, run by the real launch. rosbag2 is not among the wheels: a program that notes its arguments is run.

What rosbag2 makes of the command line is seen in test_recording.py, where it is installed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from support.reasons import OVERLAY

pytest.importorskip("launch_ros", reason=OVERLAY)

from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

NODE = ["instruction", "action_chunk", "status"]
ALOHA_CAMERAS = [f"cam_{name}/camera/color/image_rect_raw" for name in ("high", "left_wrist", "right_wrist")]
SAMPLE_CAMERAS = [f"camera_{name}/image_raw/compressed" for name in ("top", "left_wrist", "right_wrist")]


@pytest.fixture
def recorded_arguments(tmp_path, monkeypatch):
    """Launch record.launch.py with arguments, and return the command line that it executes."""
    stand_in = tmp_path / "bin" / "ros2"
    stand_in.parent.mkdir()
    written = tmp_path / "arguments.json"
    program = f"import json, pathlib, sys; pathlib.Path({str(written)!r}).write_text(json.dumps(sys.argv[1:]))"
    stand_in.write_text(f"#!{sys.executable}\n{program}\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}")

    def launched(**arguments: str) -> list[str]:
        file = PathJoinSubstitution([FindPackageShare("pi0_ttnn_ros"), "launch", "record.launch.py"])
        service = LaunchService(noninteractive=True)
        included = IncludeLaunchDescription(file, launch_arguments=arguments.items())
        service.include_launch_description(LaunchDescription([included]))
        assert service.run() == 0
        return json.loads(written.read_text())

    return launched


@pytest.mark.parametrize(
    "robot, expected",
    [
        ("aloha", [*ALOHA_CAMERAS, "joint_states", "joint_trajectory_controller/joint_trajectory"]),
        ("sample", [*SAMPLE_CAMERAS, "joint_states", "joint_trajectory_controller/joint_trajectory"]),
    ],
)
def test_recorded_topics(recorded_arguments, robot, expected):
    """record.launch.py records the topics that the robot's parameters name."""
    topics = [f"/{topic}" for topic in (*expected, *(f"pi0_policy/{name}" for name in NODE))]
    command = ["bag", "record", "--storage", "mcap", "--output", "my_bag", "--topics", *topics]
    assert recorded_arguments(robot=robot, out="my_bag") == command


def test_params_file_and_namespace(recorded_arguments, tmp_path):
    file = tmp_path / "robot.yaml"
    file.write_text(
        "/**/pi0_policy:\n  ros__parameters:\n    cameras: [base_0_rgb]\n    base_0_rgb: {topic: /ceiling/image}\n"
        "    joint_names: [a, b]\n    joint_limits: {a: {max_acceleration: 1.0}, b: {max_acceleration: 1.0}}\n"
        "    controllers: [arm, hand]\n    arm: {type: position, topic: arm/command, joints: [a]}\n"
        "    hand: {type: gripper_command, joints: [b]}\n"
    )
    # A name that is absolute stays; a gripper's action has no topic.
    topics = [
        "/ceiling/image",
        "/left/joint_states",
        "/left/arm/command",
        *(f"/left/pi0_policy/{name}" for name in NODE),
    ]
    assert recorded_arguments(params_file=str(file), namespace="left") == [
        *("bag", "record", "--storage", "mcap", "--topics"),
        *topics,
    ]


@pytest.mark.parametrize("robot", ["franka", "so101", "ur5e_robotiq", "demo"])
def test_every_robot_can_be_recorded(recorded_arguments, robot):
    """record.launch.py takes each robot in config/."""
    import yaml

    (node,) = yaml.safe_load((Path(__file__).parents[2] / "config" / f"{robot}.yaml").read_text()).values()
    given = node["ros__parameters"]
    controllers = [given[name] for name in given.get("controllers", [])]
    commands = [each["topic"] for each in controllers if each["type"] in ("joint_trajectory", "position")]
    commands = commands or ["joint_trajectory_controller/joint_trajectory"]
    cameras = [given[name]["topic"] for name in given["cameras"]]
    expected = [*cameras, given.get("joint_state_topic", "joint_states"), *commands]
    topics = recorded_arguments(robot=robot)[5:]
    assert topics == [f"/{topic}" for topic in (*expected, *(f"pi0_policy/{name}" for name in NODE))]
