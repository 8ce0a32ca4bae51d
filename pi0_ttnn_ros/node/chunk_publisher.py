"""Publish each chunk of the policy as an `ActionChunk` message."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rclpy.node import Node

from pi0_ttnn_core.policy_io import ActionChunk as PolicyChunk
from pi0_ttnn_ros.msg import ActionChunk
from pi0_ttnn_ros.observation.images import SerializedImage
from pi0_ttnn_ros.observation.stamps import serialized_stamp
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import CHUNK_TOPIC
from pi0_ttnn_ros.rclpy_utils.messages import time_message


class ChunkPublisher:
    """Publishes chunks on ~/action_chunk, numbered from 0.

    Attributes:
        sequence: number of the next chunk.
    """

    def __init__(self, node: Node, parameters: Parameters, backend: str) -> None:
        self.sequence = 0
        self._node = node
        self._joint_names = parameters.joint_names
        self._time_step = parameters.time_step
        self._backend = backend
        self._publisher = node.create_publisher(ActionChunk, CHUNK_TOPIC, 10)

    def publish(self, chunk: PolicyChunk, images: Mapping[str, SerializedImage]) -> None:
        """Publish a chunk inferred from these images, by the camera's name."""
        message = ActionChunk(
            sequence=self.sequence,
            instruction=chunk.instruction,
            cameras=list(images),
            image_stamps=[time_message(serialized_stamp(image.raw)) for image in images.values()],
            joint_names=self._joint_names,
            time_step=self._time_step,
            horizon=len(chunk.actions),
            inference_time=chunk.inference_time,
            backend=self._backend,
        )
        message.header.stamp = time_message(chunk.stamp_ns)
        message.actions.frombytes(chunk.actions.astype(np.float32).tobytes())
        self._publisher.publish(message)
        self.sequence += 1

    def close(self) -> None:
        """Destroy the publisher."""
        self._node.destroy_publisher(self._publisher)
