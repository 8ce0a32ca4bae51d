"""What every controller has in common: its set-up, and the trajectory that it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.execution.chunk_executor import Plan
from pi0_ttnn_ros.rclpy_utils.messages import trajectory_message

# How long a trajectory says that the robot rests at its end, nanoseconds. A joint_trajectory_controller refuses what
# lies in the past as a whole, and a trajectory that comes late is to be taken all the same, above all a hold.
REST_NS = 1_000_000_000


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

    @property
    def error(self) -> str:
        """Why the controller does not do what it is told; the robot is to hold until it is empty again."""

    def publish(self, plan: Plan) -> None:
        """Command the motion from now on."""

    def close(self) -> None:
        """Free what it has on the node."""


def joint_trajectory(setup: ControllerSetup, plan: Plan) -> JointTrajectory:
    """Return the message: where the joints are now and the way until they rest.

    The first point is one that has passed, so that a stamped trajectory is entered on the way itself, wherever the
    controller would else start from.
    """
    first, joints = 0 if setup.stamped else 1, setup.joints
    positions, velocities = plan.positions[first:, joints], plan.velocities[first:, joints]
    return trajectory_message(
        plan.stamp_ns if setup.stamped else 0,
        setup.joint_names,
        np.append(plan.times_ns[first:], plan.times_ns[-1] + REST_NS),
        np.vstack([positions, positions[-1:]]),
        np.vstack([velocities, np.zeros_like(velocities[-1:])]),
    )
