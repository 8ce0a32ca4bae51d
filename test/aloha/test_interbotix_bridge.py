"""ALOHA's arms as xs_sdk has them, played over DDS: what they are told, and what is told of them."""

from __future__ import annotations

import numpy as np
import pytest

from support.reasons import OVERLAY

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
xs_msgs = pytest.importorskip("interbotix_xs_msgs.msg", reason=OVERLAY)

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.aloha.joints import ARM_JOINTS, JOINT_NAMES
from pi0_ttnn_ros.rclpy_utils.messages import trajectory_message
from support.processes import Listener, Process

NAMESPACE = "/test_interbotix"
CLOSED, OPEN = 0.0440, 0.0579  # m, of a finger
NAMES = [*ARM_JOINTS, "gripper", "left_finger", "right_finger"]
LEFT = [0.0, -0.9, 1.1, 0.0, -0.3, 0.1, 0.62, CLOSED, -CLOSED]
RIGHT = [0.2, -0.8, 1.0, 0.1, -0.2, 0.0, 1.62, OPEN, -OPEN]


@pytest.fixture
def arms(ros, tmp_path):
    process = Process("aloha.interbotix_bridge", tmp_path / "log", namespace=NAMESPACE)
    listener = Listener("arms", NAMESPACE)
    for side, positions in (("left", LEFT), ("right", RIGHT)):
        publisher = listener.node.create_publisher(JointState, f"follower_{side}/joint_states", 10)

        def publish(publisher=publisher, positions=positions):
            message = JointState(name=NAMES, position=positions)
            message.header.stamp = listener.node.get_clock().now().to_msg()
            publisher.publish(message)

        listener.node.create_timer(0.02, publish)
    yield listener
    assert process.stop() == 0
    listener.close()


def test_bridge_joins_two_arms(arms):
    """Two Interbotix arms appear as one robot: joint states are merged, a trajectory is split between them."""
    states = arms.subscribe(JointState, "joint_states", qos_profile_sensor_data)
    groups = [
        arms.subscribe(xs_msgs.JointGroupCommand, f"follower_{side}/commands/joint_group") for side in ("left", "right")
    ]
    grippers = arms.subscribe(xs_msgs.JointSingleCommand, "follower_left/commands/joint_single")
    trajectories = arms.node.create_publisher(JointTrajectory, "joint_trajectory_controller/joint_trajectory", 1)
    arms.spin_until(lambda: states and trajectories.get_subscription_count(), label="joint states")
    assert states[0].name == list(JOINT_NAMES)
    start = np.array([*LEFT[:6], 0.0, *RIGHT[:6], 1.0])
    np.testing.assert_allclose(states[0].position, start, atol=1e-5)

    assert not groups[0]  # nothing before the first trajectory
    end = start + np.array(2 * [0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]) + np.eye(14)[6] * 0.5
    times = np.array([0, 2_000_000_000, 2_100_000_000])
    still = np.zeros((3, 14))
    trajectories.publish(trajectory_message(0, JOINT_NAMES, times, np.stack([start, end, end]), still))
    arms.spin_until(
        lambda: grippers and np.isclose(grippers[-1].cmd, 0.6197 + 0.5 * (1.6214 - 0.6197)), label="the end"
    )
    count = -1
    while count < len(groups[1]):  # it falls silent when the arms rest
        count, seen = len(groups[1]), len(states)
        arms.spin_until(lambda seen=seen: len(states) > seen + 20, label="more joint states")
    for group, wanted in zip(groups, np.split(end, 2), strict=True):
        assert {message.name for message in group} == {"arm"}
        np.testing.assert_allclose(group[-1].cmd, wanted[:6], atol=1e-6)
        waist = np.array([message.cmd[0] for message in group])
        assert (np.diff(waist) >= -1e-6).all() and waist[0] < wanted[0]
