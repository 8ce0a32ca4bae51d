"""The controllers that a robot has, and how each of them is told a motion."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node

from pi0_ttnn_ros.controllers.action import FollowTrajectoryController, GripperController, ParallelGripperController
from pi0_ttnn_ros.controllers.base import Controller, ControllerSetup
from pi0_ttnn_ros.controllers.topic import PositionController, TrajectoryController

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
