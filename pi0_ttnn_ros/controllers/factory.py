"""The controllers that a robot has, and how each of them is told a motion."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.action_controllers import FollowTrajectoryController, GripperController, ParallelGripperController
from pi0_ttnn_ros.chunk_executor import Trajectory
from pi0_ttnn_ros.controller_base import Controller, ControllerSetup, joint_trajectory


class TrajectoryController:
    """A joint_trajectory_controller that listens to its topic."""

    error = ""

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        self._node = node
        self._setup = setup
        self._publisher = node.create_publisher(JointTrajectory, setup.topic, 1)

    def publish(self, trajectory: Trajectory) -> None:
        self._publisher.publish(joint_trajectory(self._setup, trajectory))

    def close(self) -> None:
        self._node.destroy_publisher(self._publisher)


class PositionController:
    """A forward_command_controller of positions: it is told the next one."""

    error = ""

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        self._node = node
        self._joints = setup.joints
        self._publisher = node.create_publisher(Float64MultiArray, setup.topic, 1)

    def publish(self, trajectory: Trajectory) -> None:
        self._publisher.publish(Float64MultiArray(data=trajectory.positions[1, self._joints].tolist()))

    def close(self) -> None:
        self._node.destroy_publisher(self._publisher)


_Class = type[TrajectoryController | FollowTrajectoryController | PositionController | GripperController]
_CLASSES: dict[str, _Class] = {
    "joint_trajectory": TrajectoryController,
    "follow_joint_trajectory": FollowTrajectoryController,
    "position": PositionController,
    "gripper_command": GripperController,
    "parallel_gripper_command": ParallelGripperController,
}


def make_controllers(
    node: Node,
    types: list[str],
    topics: list[str],
    of_joint: list[int],
    joint_names: list[str],
    stamped: bool,
    max_effort: float,
) -> list[Controller]:
    """Return the controllers; `of_joint` says for each joint which of them it belongs to.

    Raises:
        ControllerError: one cannot be used.
    """
    controllers: list[Controller] = []
    for index, (kind, topic) in enumerate(zip(types, topics, strict=True)):
        joints = np.flatnonzero(np.array(of_joint) == index).tolist()
        setup = ControllerSetup(topic, joints, [joint_names[joint] for joint in joints], stamped, max_effort)
        controllers.append(_CLASSES[kind](node, setup))
    return controllers
