"""policy.launch.py, run by the real launch: the node becomes active and drives the simulated robot."""

from __future__ import annotations

import os

import pytest

from support.reasons import OVERLAY

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
launch_pytest = pytest.importorskip("launch_pytest", reason=OVERLAY)
pytest.importorskip("gym_aloha", reason="gym-aloha is not installed")

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_pytest.actions import ReadyToTest
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare
from pi0_ttnn_ros.msg import ActionChunk, PolicyStatus

from support.processes import Listener

NAMESPACE = "/test_policy_launch"


@launch_pytest.fixture(scope="module")
def description(tiny_checkpoint):
    policy = PathJoinSubstitution([FindPackageShare("pi0_ttnn_ros"), "launch", "policy.launch.py"])
    arguments = {"robot": "demo", "checkpoint": str(tiny_checkpoint), "namespace": NAMESPACE, "log_level": "debug"}
    return LaunchDescription(
        [
            Node(package="pi0_ttnn_ros", executable="sim_robot", namespace=NAMESPACE),
            IncludeLaunchDescription(policy, launch_arguments=arguments.items()),
            ReadyToTest(),
        ]
    )


@pytest.fixture
def listener(ros):
    listener = Listener("listener", NAMESPACE)
    yield listener
    listener.close()


@pytest.mark.launch(fixture=description)
def test_policy_launch_reaches_active(listener):
    """policy.launch.py activates the node, which drives the simulated robot after an instruction."""
    from std_msgs.msg import String

    statuses = listener.subscribe(PolicyStatus, "pi0_policy/status")
    chunks = listener.subscribe(ActionChunk, "pi0_policy/action_chunk")
    listener.spin_until(lambda: statuses and statuses[-1].lifecycle_state == "active", label="the active node")
    publisher = listener.node.create_publisher(String, "pi0_policy/instruction", 1)
    listener.spin_until(publisher.get_subscription_count, label="a subscription")
    publisher.publish(String(data="wave"))
    listener.spin_until(lambda: len(chunks) >= 3, label="chunks")
    assert chunks[-1].instruction == "wave"
    assert os.path.isdir(statuses[-1].checkpoint)
