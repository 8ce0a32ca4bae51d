"""The controllers that a robot has, and how each of them is told a motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from rclpy.action import ActionClient
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.chunk_executor import Trajectory
from pi0_ttnn_ros.conversions import trajectory_message

# A gripper is told a new goal no sooner than this after the last one, nanoseconds.
GRIPPER_INTERVAL = 100_000_000


class ControllerError(RuntimeError):
    """A controller that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class ControllerSetup:
    """One controller.

    joints: indices of its joints among all
    joint_names: their names
    stamped: whether a trajectory says when it starts, or starts on arrival
    max_effort: of a gripper, N
    """

    topic: str
    joints: list[int]
    joint_names: list[str]
    stamped: bool
    max_effort: float


class Controller(Protocol):
    """Commands some of the joints."""

    def publish(self, trajectory: Trajectory) -> None:
        """Command the motion from now on."""

    def close(self) -> None:
        """Free what it has on the node."""


class TrajectoryController:
    """A joint_trajectory_controller: it is told where it is now and the way until it rests.

    The first point is one that has passed, so that a stamped trajectory is entered on the way itself, wherever the
    controller would else start from.
    """

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        self._node = node
        self._setup = setup
        self._publisher = node.create_publisher(JointTrajectory, setup.topic, 1)

    def publish(self, trajectory: Trajectory) -> None:
        stamped, joints = self._setup.stamped, self._setup.joints
        first = 0 if stamped else 1
        message = trajectory_message(
            trajectory.stamp if stamped else 0,
            self._setup.joint_names,
            trajectory.times[first:],
            trajectory.positions[first:, joints],
            trajectory.velocities[first:, joints],
        )
        self._publisher.publish(message)

    def close(self) -> None:
        self._node.destroy_publisher(self._publisher)


class PositionController:
    """A forward_command_controller of positions: it is told the next one."""

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        self._node = node
        self._joints = setup.joints
        self._publisher = node.create_publisher(Float64MultiArray, setup.topic, 1)

    def publish(self, trajectory: Trajectory) -> None:
        self._publisher.publish(Float64MultiArray(data=trajectory.positions[1, self._joints].tolist()))

    def close(self) -> None:
        self._node.destroy_publisher(self._publisher)


class GripperController:
    """A gripper_action_controller: it is told where the plan ends, as a goal that replaces the one before."""

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        try:
            from control_msgs.action import GripperCommand
        except ImportError as error:
            raise ControllerError(
                f"{setup.topic}: controllers of type gripper_command need the package control_msgs ({error}): "
                f"install ros-${{ROS_DISTRO}}-control-msgs"
            ) from error
        if len(setup.joints) != 1:
            raise ControllerError(f"{setup.topic}: a gripper_command controller has one joint, not {setup.joint_names}")
        self._goal_type = GripperCommand.Goal
        self._max_effort = setup.max_effort
        self._joint = setup.joints[0]
        self._client = ActionClient(node, GripperCommand, setup.topic)
        self._last_position: float | None = None
        self._last_stamp = 0

    def publish(self, trajectory: Trajectory) -> None:
        position = float(trajectory.positions[-1, self._joint])
        early = 0 <= trajectory.stamp - self._last_stamp < GRIPPER_INTERVAL
        if position == self._last_position or (early and not trajectory.at_rest) or not self._client.server_is_ready():
            return
        goal = self._goal_type()
        goal.command.position, goal.command.max_effort = position, self._max_effort
        self._client.send_goal_async(goal)
        self._last_position, self._last_stamp = position, trajectory.stamp

    def close(self) -> None:
        self._client.destroy()


_Class = type[TrajectoryController] | type[PositionController] | type[GripperController]
_CLASSES: dict[str, _Class] = {
    "joint_trajectory": TrajectoryController,
    "position": PositionController,
    "gripper_command": GripperController,
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
