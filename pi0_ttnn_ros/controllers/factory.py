"""The controllers that a robot has, and how each of them is told a motion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rclpy.node import Node

from pi0_ttnn_ros.controllers.action import FollowTrajectoryController, GripperController, ParallelGripperController
from pi0_ttnn_ros.controllers.base import Controller, ControllerSetup
from pi0_ttnn_ros.controllers.topic import PositionController, TrajectoryController
from pi0_ttnn_ros.parameters.parameters import ControllerParameters

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
    controllers: Mapping[str, ControllerParameters],
    joint_names: Sequence[str],
    stamped: bool,
    max_effort: float,
) -> list[Controller]:
    """Return the controllers, in their order.

    Raises:
        ControllerError: one cannot be used.
    """
    made: list[Controller] = []
    for controller in controllers.values():
        indices = [joint_names.index(joint) for joint in controller.joints]
        setup = ControllerSetup(controller.topic, indices, controller.joints, stamped, max_effort)
        made.append(_CLASSES[controller.type](node, setup))
    return made
