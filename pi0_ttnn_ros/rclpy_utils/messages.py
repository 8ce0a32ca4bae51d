"""numpy -> ROS messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint


def time_message(stamp: int) -> Time:
    return Time(sec=stamp // 10**9, nanosec=stamp % 10**9)


def duration_message(nanosec: int) -> Duration:
    return Duration(sec=nanosec // 10**9, nanosec=nanosec % 10**9)


def trajectory_message(
    stamp: int, joint_names: Sequence[str], times: np.ndarray, positions: np.ndarray, velocities: np.ndarray
) -> JointTrajectory:
    """Return a trajectory that starts at `stamp` (nanoseconds).

    times: int64 [points], nanoseconds from the start, strictly increasing
    positions, velocities: [points, joints], rad and rad/s (m and m/s)
    """
    message = JointTrajectory(joint_names=list(joint_names))
    message.header.stamp = time_message(stamp)
    message.points = [
        JointTrajectoryPoint(positions=p.tolist(), velocities=v.tolist(), time_from_start=duration_message(int(t)))
        for t, p, v in zip(times, positions, velocities, strict=True)
    ]
    return message
