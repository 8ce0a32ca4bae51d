"""ROS messages <-> numpy."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from builtin_interfaces.msg import Duration, Time
from sensor_msgs.msg import CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

# Encoding -> channels in memory, and which of them are red, green and blue.
ENCODINGS = {
    "rgb8": (3, [0, 1, 2]),
    "bgr8": (3, [2, 1, 0]),
    "rgba8": (4, [0, 1, 2]),
    "bgra8": (4, [2, 1, 0]),
    "mono8": (1, [0, 0, 0]),
}


class ConversionError(ValueError):
    """A message that cannot be used; the text names the field and what was expected."""


def nanoseconds(stamp: Time) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def time_message(stamp: int) -> Time:
    return Time(sec=stamp // 10**9, nanosec=stamp % 10**9)


def duration_message(nanosec: int) -> Duration:
    return Duration(sec=nanosec // 10**9, nanosec=nanosec % 10**9)


def image_from_message(message: Image | CompressedImage) -> np.ndarray:
    """Return uint8 [height, width, 3], RGB.

    Raises:
        ConversionError: an unknown encoding, or data that does not fit height, width and step.
    """
    if isinstance(message, CompressedImage):
        return _decompressed(message)
    if message.encoding not in ENCODINGS:
        raise ConversionError(f"image encoding {message.encoding!r} is not one of {list(ENCODINGS)}")
    channels, order = ENCODINGS[message.encoding]
    data = np.frombuffer(message.data, np.uint8)
    row = message.width * channels
    if data.size != message.height * message.step or message.step < row or row == 0 or message.height == 0:
        raise ConversionError(
            f"image data of {data.size} bytes does not fit height {message.height}, width {message.width}, "
            f"step {message.step}, encoding {message.encoding}"
        )
    pixels = data.reshape(message.height, message.step)[:, :row].reshape(message.height, message.width, channels)
    return pixels if message.encoding == "rgb8" else pixels[:, :, order]


def _decompressed(message: CompressedImage) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR) if message.data else None
    if decoded is None:
        raise ConversionError(f"compressed image of {len(message.data)} bytes, format {message.format!r}, is damaged")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def positions_from_message(message: JointState, joint_names: Sequence[str]) -> np.ndarray:
    """Return float32 [joints], the positions in the order of `joint_names`, whatever the message's order.

    Raises:
        ConversionError: a joint is missing, or names and positions differ in number.
    """
    if len(message.name) != len(message.position):
        raise ConversionError(f"joint states have {len(message.name)} names and {len(message.position)} positions")
    positions = dict(zip(message.name, message.position, strict=True))
    missing = [name for name in joint_names if name not in positions]
    if missing:
        raise ConversionError(f"joint states lack {missing}; they have {list(message.name)}")
    return np.array([positions[name] for name in joint_names], np.float32)


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
