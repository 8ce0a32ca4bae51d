"""Messages -> numpy, for messages of any library with ROS's fields: rclpy's, or a bag reader's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pi0_ttnn_core.policy_io import Observation
from pi0_ttnn_ros.observation.buffer import Snapshot

# Encoding -> number of channels in memory, and the indices of red, green and blue.
ENCODINGS = {
    "rgb8": (3, [0, 1, 2]),
    "bgr8": (3, [2, 1, 0]),
    "rgba8": (4, [0, 1, 2]),
    "bgra8": (4, [2, 1, 0]),
    "mono8": (1, [0, 0, 0]),
}


class ConversionError(ValueError):
    """A message that cannot be used; the text names the field and what was expected."""


def image_from_message(message: Any) -> np.ndarray:
    """Return the pixels of an Image or a CompressedImage, uint8 [height, width, 3], RGB.

    Raises:
        ConversionError: the encoding is unknown, or the data does not fit height, width and step, or is damaged.
    """
    if hasattr(message, "format"):  # a CompressedImage
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


def _decompressed(message: Any) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR) if len(message.data) else None
    if decoded is None:
        raise ConversionError(f"compressed image of {len(message.data)} bytes, format {message.format!r}, is damaged")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def positions_from_message(message: Any, joint_names: Sequence[str]) -> np.ndarray:
    """Return the positions of a JointState in the order of `joint_names`, float32 [joints].

    Raises:
        ConversionError: a joint is missing, or the numbers of names and positions differ.
    """
    if len(message.name) != len(message.position):
        raise ConversionError(f"joint states have {len(message.name)} names and {len(message.position)} positions")
    positions = dict(zip(message.name, message.position, strict=True))
    missing = [name for name in joint_names if name not in positions]
    if missing:
        raise ConversionError(f"joint states lack {missing}; they have {list(message.name)}")
    return np.array([positions[name] for name in joint_names], np.float32)


def observation_from_snapshot(snapshot: Snapshot, joint_names: Sequence[str]) -> Observation:
    """Decode a snapshot.

    Raises:
        ConversionError: naming the camera or the joints at fault.
    """
    images = {}
    for camera, image in snapshot.images.items():
        try:
            images[camera] = image_from_message(image.decode())
        except ConversionError as error:
            raise ConversionError(f"camera {camera!r}: {error}") from error
    state = positions_from_message(snapshot.joint_states, joint_names)
    return Observation(images, state, snapshot.instruction, snapshot.stamp_ns)
