"""How each type of controller is told a motion, over DDS."""

from __future__ import annotations

import sys

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.action import ActionServer
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.chunk_executor import Trajectory
from pi0_ttnn_ros.controllers import ControllerError, make_controllers
from pi0_ttnn_ros.message_decoding import nanoseconds
from ros_helpers import Listener

JOINTS = ["shoulder", "elbow", "finger"]
STAMP = 5 * 10**9
TIMES = 20_000_000 * np.arange(3, dtype=np.int64)
MOTION = Trajectory(
    STAMP,
    TIMES,
    np.array([[0.0, 1.0, 0.01], [0.1, 1.1, 0.02], [0.2, 1.2, 0.03]]),
    np.array([[5.0, 5.0, 0.5], [5.0, 5.0, 0.5], [0.0, 0.0, 0.0]]),
)


@pytest.fixture
def listener():
    rclpy.init()
    listener = Listener("listener", "/test_controllers")
    yield listener
    listener.close()
    rclpy.shutdown()


@pytest.fixture
def node(listener):
    node = Node("sender", namespace="/test_controllers")
    yield node
    node.destroy_node()


def controllers(node, types, topics, of_joint, stamped=True):
    return make_controllers(node, types, topics, of_joint, JOINTS, stamped, max_effort=7.0)


@pytest.mark.parametrize("stamped", [True, False])
def test_a_trajectory_has_the_joints_of_its_controller(listener, node, stamped):
    heard = listener.hear(JointTrajectory, "arm")
    (controller,) = controllers(node, ["joint_trajectory"], ["arm"], [0, 0, 0], stamped)
    listener.spin_until(lambda: node.count_subscribers("/test_controllers/arm"), what="a subscription")
    controller.publish(MOTION)
    listener.spin_until(lambda: heard, what="the trajectory")
    message = heard[0]
    assert message.joint_names == JOINTS
    assert nanoseconds(message.header.stamp) == (STAMP if stamped else 0)
    # On arrival "now" is not a point that one can still go to.
    first = 0 if stamped else 1
    assert [nanoseconds(point.time_from_start) for point in message.points] == TIMES[first:].tolist()
    assert list(message.points[-1].positions) == [0.2, 1.2, 0.03] and not any(message.points[-1].velocities)


def test_joints_are_split_between_controllers(listener, node):
    arm, finger = listener.hear(JointTrajectory, "arm"), listener.hear(Float64MultiArray, "finger")
    both = controllers(node, ["position", "joint_trajectory"], ["finger", "arm"], [1, 1, 0])
    for topic in ("finger", "arm"):
        listener.spin_until(lambda topic=topic: node.count_subscribers(f"/test_controllers/{topic}"), what=topic)
    for controller in both:
        controller.publish(MOTION)
    listener.spin_until(lambda: arm and finger, what="both commands")
    assert arm[0].joint_names == ["shoulder", "elbow"] and list(arm[0].points[1].positions) == [0.1, 1.1]
    assert list(finger[0].data) == [0.02]


def test_a_gripper_is_told_where_the_plan_ends(listener, node):
    control_msgs = pytest.importorskip("control_msgs.action", reason="control_msgs is not installed")
    goals = []

    def execute(handle):
        goals.append((handle.request.command.position, handle.request.command.max_effort))
        handle.succeed()
        return control_msgs.GripperCommand.Result()

    server = ActionServer(listener.node, control_msgs.GripperCommand, "gripper", execute)
    _, gripper = controllers(node, ["joint_trajectory", "gripper_command"], ["arm", "gripper"], [0, 0, 1])
    rest = Trajectory(STAMP + 20_000_000, TIMES, np.full((3, 3), 0.04), np.zeros((3, 3)))

    def tell(trajectory, count):
        listener.spin_until(lambda: gripper.publish(trajectory) or len(goals) >= count, what="a goal")

    tell(MOTION, 1)
    tell(rest, 2)  # so soon after the last one only because it is the end
    gripper.publish(rest)
    assert goals == [(0.03, 7.0), (0.04, 7.0)]
    gripper.close()
    server.destroy()


def test_without_control_msgs_a_gripper_is_refused_with_the_remedy(node, monkeypatch):
    monkeypatch.setitem(sys.modules, "control_msgs.action", None)
    with pytest.raises(ControllerError, match="install ros-"):
        controllers(node, ["gripper_command"], ["gripper"], [0, 0, 0])
