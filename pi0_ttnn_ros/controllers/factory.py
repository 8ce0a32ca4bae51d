"""Create the controllers of a robot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol

from rclpy.node import Node

from pi0_ttnn_ros.controllers.action import FollowTrajectoryController, GripperController, ParallelGripperController
from pi0_ttnn_ros.controllers.base import Controller, ControllerSetup
from pi0_ttnn_ros.controllers.topic import PositionController, TrajectoryController
from pi0_ttnn_ros.parameters.parameters import ControllerParameters


class ControllerType(Protocol):
    """A class of controllers, by its constructor."""

    def __call__(self, node: Node, setup: ControllerSetup) -> Controller:
        """Create a controller on `node`."""


_CLASSES: dict[str, ControllerType] = {
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
        ControllerError: one of them cannot be used; the others are closed again.
    """
    made: list[Controller] = []
    with ExitStack() as stack:
        for controller in controllers.values():
            indices = [joint_names.index(joint) for joint in controller.joints]
            setup = ControllerSetup(controller.topic, indices, controller.joints, stamped, max_effort)
            made.append(_CLASSES[controller.type](node, setup))
            stack.callback(made[-1].close)
        stack.pop_all()
    return made
