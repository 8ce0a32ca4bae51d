"""Messages -> numpy, for messages of any library with ROS's fields: rclpy's, or a bag reader's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ttnn_core.policy_io import Observation
from pi0_ttnn_ros.observation.buffer import Snapshot
from pi0_ttnn_ros.observation.images import ConversionError, SerializedImage
from pi0_ttnn_ros.observation.pixels import MAX_MESSAGE_SIZE, image_from_message


@dataclass(frozen=True)
class EncodedObservation:
    """An observation whose images are not decoded yet.

    Attributes:
        images: by camera.
        state: float32 [joints], rad or m.
        instruction: what the robot is to do.
        stamp_ns: stamp of the joint states.
    """

    images: Mapping[str, SerializedImage]
    state: np.ndarray
    instruction: str
    stamp_ns: int


def positions_from_message(message: Any, joint_names: Sequence[str]) -> np.ndarray:
    """Return the positions of a JointState in the order of `joint_names`, float32 [joints].

    Raises:
        ConversionError: a joint is missing or named twice, or the numbers of names and positions differ.
    """
    if len(message.name) != len(message.position):
        raise ConversionError(f"joint states have {len(message.name)} names and {len(message.position)} positions")
    positions = dict(zip(message.name, message.position, strict=True))
    if len(positions) < len(message.name):
        doubled = sorted(name for name, count in Counter(message.name).items() if count > 1)
        raise ConversionError(f"joint states name {doubled} more than once")
    missing = [name for name in joint_names if name not in positions]
    if missing:
        raise ConversionError(f"joint states lack {missing}; they have {list(message.name)}")
    return np.array([positions[name] for name in joint_names], np.float32)


def encoded_observation(snapshot: Snapshot, joint_names: Sequence[str]) -> EncodedObservation:
    """Return a snapshot's observation; the images stay as they are.

    Raises:
        ConversionError: an image is too large to be passed on, or the joint states lack a joint.
    """
    for camera, image in snapshot.images.items():
        if len(image.raw) > MAX_MESSAGE_SIZE:
            raise ConversionError(f"camera {camera!r}: image message of {len(image.raw) / 1e6:.0f} MB is too large")
    state = positions_from_message(snapshot.joint_states, joint_names)
    return EncodedObservation(snapshot.images, state, snapshot.instruction, snapshot.stamp_ns)


def decoded_observation(observation: EncodedObservation) -> Observation:
    """Decode the images.

    Raises:
        ConversionError: naming the camera at fault.
    """
    images = {}
    for camera, image in observation.images.items():
        try:
            images[camera] = image_from_message(image.message())
        except ConversionError as error:
            raise ConversionError(f"camera {camera!r}: {error}") from error
    return Observation(images, observation.state, observation.instruction, observation.stamp_ns)


def observation_from_snapshot(snapshot: Snapshot, joint_names: Sequence[str]) -> Observation:
    """Decode a snapshot.

    Raises:
        ConversionError: naming the camera or the joints at fault.
    """
    return decoded_observation(encoded_observation(snapshot, joint_names))
