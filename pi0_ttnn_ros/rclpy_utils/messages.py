"""Convert numbers and numpy arrays to ROS messages."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from sensor_msgs.msg import CompressedImage, Image
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ttnn_ros.parameters.topics import is_compressed


def time_message(stamp_ns: int) -> Time:
    """Return a stamp as a message."""
    return Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def duration_message(duration_ns: int) -> Duration:
    """Return a duration as a message."""
    return Duration(sec=duration_ns // 10**9, nanosec=duration_ns % 10**9)


def trajectory_message(
    stamp_ns: int, joint_names: Sequence[str], times_ns: np.ndarray, positions: np.ndarray, velocities: np.ndarray
) -> JointTrajectory:
    """Return a trajectory as a message.

    Args:
        stamp_ns: its start.
        joint_names: its joints, in order.
        times_ns: int64 [points], from the start, strictly increasing.
        positions: [points, joints], rad or m.
        velocities: [points, joints], rad/s or m/s.
    """
    message = JointTrajectory(joint_names=list(joint_names))
    message.header.stamp = time_message(stamp_ns)
    rows = np.asarray(positions, np.float64), np.asarray(velocities, np.float64)
    for time_ns, at, speed in zip(times_ns.tolist(), *rows, strict=True):
        # Field by field and from arrays: a plan has some forty points, and this takes the least time.
        point = JointTrajectoryPoint()
        point.positions, point.velocities = array("d", at.tobytes()), array("d", speed.tobytes())
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(time_ns, 10**9)
        message.points.append(point)
    return message


def image_type(topic: str) -> type[Image] | type[CompressedImage]:
    """Return the message type of an image topic, by image_transport's naming."""
    return CompressedImage if is_compressed(topic) else Image
