"""The parameters on a ROS 2 node: declared by the lists of names, set, and read."""

from __future__ import annotations

import re

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.node import Node
from rclpy.parameter import Parameter

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.rclpy_utils.parameters import NodeParameters
from support.former_yaml import BY_NAME, FORMER_YAML

ROBOT = """
/**/pi0_policy:
  ros__parameters:
    checkpoint: anywhere
    cameras: [front]
    front: {topic: front/image_raw}
    joint_names: [shoulder, elbow]
    joint_limits:
      shoulder: {max_acceleration: 5.0}
      elbow: {max_velocity: 2.0, max_acceleration: 5.0}
"""


@pytest.fixture
def make_node(tmp_path):
    """Return nodes that are started with a parameter file."""
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(content: str) -> Node:
        file = tmp_path / "robot.yaml"
        file.write_text(content)
        arguments = ["--ros-args", "--params-file", str(file)]
        nodes.append(Node("pi0_policy", context=context, cli_args=arguments, allow_undeclared_parameters=True))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def set_one(node: Node, name: str, value) -> str:
    """Set a parameter and return why it was refused; empty if it was not."""
    result = node.set_parameters_atomically([Parameter(name, value=value)])
    assert result.successful == (not result.reason)
    return result.reason


def test_node_and_replay_agree(make_node, tmp_path):
    """The node reads a file as replay does."""
    from pi0_ttnn_ros.parameters.reading import parameters_from_yaml

    parameters = NodeParameters(make_node(ROBOT)).read()
    assert parameters == parameters_from_yaml(tmp_path / "robot.yaml", {})
    assert parameters.joint_limits["elbow"].max_velocity == 2.0
    assert parameters.controllers["joint_trajectory_controller"].joints == ["shoulder", "elbow"]


def test_descriptions_and_ranges(make_node):
    """Parameters of sections have descriptions, types and ranges too."""
    node = make_node(ROBOT)
    NodeParameters(node)
    names = ("seed", "front.topic", "joint_trajectory_controller.type", "joint_limits.elbow.min_position")
    for descriptor in node.describe_parameters(names):
        assert descriptor.description.endswith(".") and descriptor.type
    (limits,) = node.describe_parameter("joint_limits.elbow.max_acceleration").floating_point_range
    assert (limits.from_value, limits.to_value) == (0.0, 1e6)


def test_sections_follow_lists(make_node):
    """Setting a list of names declares and removes sections."""
    node = make_node(ROBOT)
    parameters = NodeParameters(node)
    assert not set_one(node, "cameras", ["front", "wrist"])
    with pytest.raises(ParameterError, match=r"wrist\.topic is not set"):
        parameters.read()
    assert not set_one(node, "wrist.topic", "wrist/image_raw")
    assert [camera.topic for camera in parameters.read().cameras.values()] == ["front/image_raw", "wrist/image_raw"]
    assert not set_one(node, "cameras", ["front"])
    assert not node.has_parameter("wrist.topic")
    # What comes back has the value of the file again.
    assert not set_one(node, "front.topic", "other/image_raw")
    nothing = Parameter("cameras", Parameter.Type.STRING_ARRAY, [])
    assert node.set_parameters_atomically([nothing]).successful
    assert not set_one(node, "cameras", ["front"])
    assert parameters.read().cameras["front"].topic == "front/image_raw"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("wrist.topic", "image", "wrist.topic is not a parameter: cameras or controllers would have to name 'wrist'"),
        ("joint_limits.hip.max_velocity", 1.0, "joint_names would have to name 'hip'"),
        ("max_jump_tme", 1.0, "max_jump_tme is not a parameter: did you mean max_jump_time?"),
        ("cameras", ["gripper_range"], "cameras names ['gripper_range'], which is the name of another parameter"),
        ("joint_names", ["a", "a"], "joint_names names ['a'] more than once"),
        ("joint_limits.elbow.max_velocity", -1.0, "out of range"),
        ("joint_limits.elbow.max_velocity", float("nan"), "out of range"),
        ("joint_limits.elbow.max_velocity", 1, "Wrong parameter type"),
    ],
)
def test_refused_values(make_node, name, value, reason):
    """What cannot be set is refused with a reason, and nothing changes."""
    node = make_node(ROBOT)
    parameters = NodeParameters(node)
    before = parameters.read()
    assert reason in set_one(node, name, value)
    assert parameters.read() == before


def test_reserved_name_in_file(make_node):
    """A name that is reserved does not end the node: reading reports it."""
    parameters = NodeParameters(make_node(ROBOT.replace("front", "seed")))
    with pytest.raises(ParameterError, match=r"cameras names \['seed'\]"):
        parameters.read()


def test_unknown_parameters_in_file(make_node, capfd):
    """A limit of an unknown joint is refused; another unknown parameter is logged."""
    node = make_node(ROBOT + "      hip: {max_velocity: 1.0}\n    max_jump_tme: 0.5\n")
    with pytest.raises(ParameterError, match="joint_names would have to name 'hip'"):
        NodeParameters(node).read()
    NodeParameters(make_node(ROBOT + "    max_jump_tme: 0.5\n    replay: {max_mae: 0.1}\n")).read()
    log = capfd.readouterr().err
    assert "max_jump_tme is not a parameter: did you mean max_jump_time?" in log and "replay" not in log


@pytest.mark.parametrize(
    ("value", "reason"), [(".nan", "nan, but must be finite"), ("3", "write 3.0"), ("-1.0", "from 0")]
)
def test_invalid_section_value_in_file(make_node, value, reason):
    """A wrong value in a section does not end the node: reading reports it."""
    parameters = NodeParameters(make_node(ROBOT.replace("max_velocity: 2.0", f"max_velocity: {value}")))
    for _ in range(2):
        with pytest.raises(ParameterError, match=f"joint_limits.elbow.max_velocity is .*{re.escape(reason)}"):
            parameters.read()


def test_integer_for_double(make_node):
    """An integer for a double is refused, with what to write."""
    with pytest.raises(ParameterError, match=r"time_step is 1, but must be of type double: write 1\.0"):
        NodeParameters(make_node(ROBOT + "    time_step: 1\n"))


def test_former_yaml(make_node):
    """Reading refuses the former YAML, with what to write."""
    parameters = NodeParameters(make_node(FORMER_YAML))
    with pytest.raises(ParameterError) as refused:
        parameters.read()
    assert str(refused.value).endswith(BY_NAME)
