"""What all controllers share: their setup, their interface and the trajectory message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.execution.chunk_executor import Plan
from pi0_ttnn_ros.rclpy_utils.messages import trajectory_message

# Each trajectory ends with this long a rest. A joint_trajectory_controller refuses a trajectory that lies in the past
# as a whole, and one that arrives late must be accepted all the same, a hold above all.
REST_NS = 1_000_000_000
# The first point of a trajectory that starts on arrival lies this far ahead. A joint_trajectory_controller interpolates
# to it from where the joints are measured, 50 times a second. The nearer it is, the more its acceleration exceeds the
# limit: in 1 % of the updates by more than 10 times with 20 ms, 1.7 times with 100 ms (docs/measurements.md). The
# farther, the later a hold begins.
FIRST_POINT_NS = 100_000_000


class ControllerError(RuntimeError):
    """A controller cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class ControllerSetup:
    """One controller.

    Attributes:
        topic: its topic, or the name of its action.
        joints: indices of its joints among all joints.
        joint_names: names of its joints.
        stamped: whether a trajectory's stamp says when it starts; otherwise it starts on arrival.
        max_effort: N, of a gripper.
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
        """Why the controller does not follow its commands, empty if it does; the robot holds meanwhile."""

    @property
    def pending(self) -> bool:
        """Whether the last plan has yet to reach the controller, although the robot rests: publish it again."""

    def publish(self, plan: Plan) -> None:
        """Command a motion, which replaces the one before."""

    def close(self) -> None:
        """Destroy its publisher or action client."""


def joint_trajectory(setup: ControllerSetup, plan: Plan) -> JointTrajectory:
    """Return the message that commands a plan: the controller's joints from now until they rest.

    The first point of a stamped trajectory has passed already, so that the controller enters the plan itself instead
    of interpolating to it from where it is. In the first moments of a simulation no stamp can say so, since 0 means on
    arrival, and one below 0 ends a joint_trajectory_controller: then the trajectory is not stamped.
    """
    joints = setup.joints
    if setup.stamped and plan.stamp_ns > 0:
        first, start_ns, stamp_ns = 0, plan.stamp_ns, plan.stamp_ns
    else:
        start_ns, stamp_ns = plan.now_ns, 0
        ahead = plan.times_ns >= plan.now_ns + FIRST_POINT_NS - plan.stamp_ns
        first = int(np.argmax(np.append(ahead[:-1], True)))
    times_ns = plan.times_ns[first:] + plan.stamp_ns - start_ns
    positions, velocities = plan.positions[first:, joints], plan.velocities[first:, joints]
    return trajectory_message(
        stamp_ns,
        setup.joint_names,
        np.append(times_ns, times_ns[-1] + REST_NS),
        np.vstack([positions, positions[-1:]]),
        np.vstack([velocities, np.zeros_like(velocities[-1:])]),
    )
