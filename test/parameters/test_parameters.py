"""A robot's YAML: what it means by name, and what is refused."""

from __future__ import annotations

import math
import re

import pytest
import yaml

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.parameters import CameraParameters, ControllerParameters, JointLimitParameters
from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from support.former_yaml import BY_NAME, FORMER_YAML

ROBOT = {
    "checkpoint": "anywhere",
    "cameras": ["base_0_rgb", "left_wrist_0_rgb"],
    "base_0_rgb": {"topic": "top/image_raw"},
    "left_wrist_0_rgb": {"topic": "wrist/image_raw/compressed"},
    "joint_names": ["shoulder", "elbow", "jaw"],
    "controllers": ["arm", "gripper"],
    "arm": {"joints": ["elbow", "shoulder"]},
    "gripper": {"type": "gripper_command", "topic": "hand/gripper_cmd", "joints": ["jaw"]},
    "joint_limits": {
        "shoulder": {"max_acceleration": 5.0},
        "elbow": {"min_position": -1.0, "max_position": 1.0, "max_velocity": 2.0, "max_acceleration": 5.0},
        "jaw": {"max_acceleration": 1.0},
    },
}


@pytest.fixture
def read(tmp_path):
    """Return the parameters of ROBOT with changes by full name; None removes a parameter."""

    def parameters(changes=()):
        file = tmp_path / "robot.yaml"
        changes = dict(changes)
        gone = [name for name, value in changes.items() if value is None]
        robot = {name: value for name, value in ROBOT.items() if name not in gone}
        robot |= {name: value for name, value in changes.items() if value is not None}
        file.write_text(yaml.safe_dump({"/**/pi0_policy": {"ros__parameters": robot}}))
        return parameters_from_yaml(file, {})

    return parameters


def test_sections_by_name(read):
    """Each name in a list has a section, whose values are read."""
    parameters = read()
    assert parameters.cameras == {
        "base_0_rgb": CameraParameters("top/image_raw"),
        "left_wrist_0_rgb": CameraParameters("wrist/image_raw/compressed"),
    }
    assert parameters.controllers == {
        "arm": ControllerParameters("joint_trajectory", "arm/joint_trajectory", ["elbow", "shoulder"]),
        "gripper": ControllerParameters("gripper_command", "hand/gripper_cmd", ["jaw"]),
    }
    assert parameters.joint_limits == {
        "shoulder": JointLimitParameters(None, None, None, 5.0, None),
        "elbow": JointLimitParameters(-1.0, 1.0, 2.0, 5.0, None),
        "jaw": JointLimitParameters(None, None, None, 1.0, None),
    }
    assert parameters.robot.cameras == tuple(ROBOT["cameras"])


def test_default_controller(read):
    """By default, one controller has all joints."""
    parameters = read({"controllers": None, "arm": None, "gripper": None})
    assert parameters.controllers == {
        "joint_trajectory_controller": ControllerParameters(
            "joint_trajectory", "joint_trajectory_controller/joint_trajectory", ["shoulder", "elbow", "jaw"]
        )
    }


@pytest.mark.parametrize(
    ("kind", "topic"),
    [
        ("follow_joint_trajectory", "arm/follow_joint_trajectory"),
        ("position", "arm/commands"),
        ("gripper_command", "arm/gripper_cmd"),
        ("parallel_gripper_command", "arm/gripper_cmd"),
    ],
)
def test_default_controller_topic(read, kind, topic):
    """A controller without a topic has that of ros2_control."""
    arm = {"type": kind, "joints": ["shoulder", "elbow"]}
    assert read({"arm": arm}).controllers["arm"].topic == topic


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        # Names
        ({"cameras": ["base_0_rgb", "base_0_rgb"]}, "cameras names ['base_0_rgb'] more than once"),
        ({"joint_names": ["jaw", "jaw"]}, "joint_names names ['jaw'] more than once"),
        ({"controllers": ["joint_limits"]}, "controllers names ['joint_limits'], which is the name of another"),
        ({"controllers": ["gripper_range"]}, "controllers names ['gripper_range'], which is the name of another"),
        ({"cameras": ["seed"]}, "cameras names ['seed'], which is the name of another"),
        ({"cameras": ["arm"]}, "cameras and controllers both name ['arm']"),
        ({"cameras": [1, 2]}, "cameras is [1, 2], but must be of type string array"),
        # What is missing
        ({"cameras": None}, "base_0_rgb.topic is not a parameter: cameras or controllers would have to name"),
        ({"cameras": None, "base_0_rgb": None, "left_wrist_0_rgb": None}, "parameter cameras is not set"),
        ({"base_0_rgb": None}, "parameter base_0_rgb.topic is not set"),
        ({"left_wrist_0_rgb": {"topic": "top/image_raw"}}, "'left_wrist_0_rgb'] have the same topic 'top/image_raw'"),
        ({"joint_limits": None}, "parameter joint_limits.shoulder.max_acceleration is not set"),
        # Every joint has one controller
        ({"arm": {"joints": ["elbow"]}}, "joints ['shoulder'] have no controller"),
        ({"arm": {"joints": ["elbow", "shoulder", "jaw"]}}, "joints ['jaw'] are named more than once in ['arm.joints'"),
        ({"arm": {"joints": ["elbow", "elbow", "shoulder"]}}, "joints ['elbow'] are named more than once"),
        ({"arm": {"joints": ["elbow", "hip"]}}, "arm.joints names ['hip'], which are not in joint_names"),
        ({"arm": {}}, "parameter arm.joints is not set"),
        ({"arm": {"type": "velocity"}}, "arm.type is 'velocity': choose one of ['joint_trajectory',"),
        # Values
        ({"joint_limits.hip.max_velocity": 1.0}, "hip.max_velocity is not a parameter: joint_names would have to name"),
        ({"joint_limits.jaw.max_velocity": 1}, "jaw.max_velocity is 1, but must be of type double: write 1.0"),
        ({"joint_limits.jaw.max_velocity": math.nan}, "joint_limits.jaw.max_velocity is nan, but must be finite"),
        ({"joint_limits.jaw.max_position": math.inf}, "joint_limits.jaw.max_position is inf, but must be finite"),
        ({"joint_limits.jaw.max_velocity": -1.0}, "jaw.max_velocity is -1.0, but must be from 0 to 1e+06"),
        (
            {"gripper_range.robot": [0, 1]},
            "gripper_range.robot is [0, 1], but must be of type double array: write [0.0, 1.0]",
        ),
        ({"dry_run": 1}, "dry_run is 1, but must be of type bool"),
        # Unknown names
        ({"max_jump_tme": 0.5}, "max_jump_tme is not a parameter: did you mean max_jump_time?"),
        ({"joint_limits.jaw.max_velocty": 1.0}, "did you mean joint_limits.jaw.max_velocity?"),
    ],
)
def test_invalid_yaml(read, changes, culprit):
    """What is wrong is named, with the remedy."""
    with pytest.raises(ParameterError, match=re.escape(culprit)):
        read(changes)


def test_parameters_of_others(read):
    """Parameters of rclpy and of replay are not unknown."""
    assert read({"use_sim_time": True, "replay.max_mae": 0.1}) == read()


def test_former_yaml(tmp_path):
    """The former YAML is refused, and what the message says to write can be read."""
    file = tmp_path / "robot.yaml"
    file.write_text(FORMER_YAML)
    with pytest.raises(ParameterError, match=r"camera_topics, controller_topics, .* are written by name") as refused:
        parameters_from_yaml(file, {})
    assert str(refused.value).endswith(BY_NAME)
    # What it says to write can be read.
    kept = [line for line in FORMER_YAML.splitlines() if re.match(r"\S|  \S|    (checkpoint|joint_names)", line)]
    file.write_text("\n".join(kept) + BY_NAME)
    parameters = parameters_from_yaml(file, {})
    assert parameters.controllers["hand"] == ControllerParameters("gripper_command", "/hand/gripper_cmd", ["jaw"])
    assert parameters.joint_limits["jaw"] == JointLimitParameters(0.0, 0.04, None, 1.0, None)


def test_former_yaml_with_wrong_lengths(tmp_path):
    """Arrays that do not match in length are shown as far as they do."""
    file = tmp_path / "robot.yaml"
    file.write_text(FORMER_YAML.replace("[5.0, 5.0, 1.0]", "[5.0]").replace("[1.0, 2.0, 0.04]", "1.0"))
    with pytest.raises(ParameterError, match=re.escape("elbow: {min_position: -2.0}")):
        parameters_from_yaml(file, {})
