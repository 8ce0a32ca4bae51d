"""The policy's inputs: subscriptions that fill the observation buffer."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, String

from pi0_ttnn_ros.node.publisher_check import PublisherCheck
from pi0_ttnn_ros.observation.buffer import HEARTBEAT, INSTRUCTION, JOINT_STATES, ObservationBuffer
from pi0_ttnn_ros.observation.decoding import positions_from_message
from pi0_ttnn_ros.observation.images import ConversionError, SerializedImage
from pi0_ttnn_ros.observation.stamps import nanoseconds, serialized_stamp
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import HEARTBEAT_TOPIC, INSTRUCTION_TOPIC, is_compressed
from pi0_ttnn_ros.rclpy_utils.logs import log_line
from pi0_ttnn_ros.rclpy_utils.message_info import MessageInfo, age_ns, with_info
from pi0_ttnn_ros.rclpy_utils.messages import image_type
from pi0_ttnn_ros.rclpy_utils.qos import NEWEST
from pi0_ttnn_ros.rclpy_utils.subscribe import LatchedOrNot

SAMPLE_BYTES = 8192  # of an image that are compared with the one before: the noise of a real camera is everywhere
STAMP_END = 12  # bytes of a serialized message up to the end of its stamp
LOG_INTERVAL_S = 5.0  # between two logs of damaged messages


class PolicyInputs:
    """Images, joint states, heartbeat and instruction, the newest of each. Receives from `subscribe` to `close`.

    Attributes:
        buffer: the newest messages; images are still serialized.
    """

    def __init__(self, node: Node, parameters: Parameters, now_ns: Callable[[], int]) -> None:
        self.buffer = ObservationBuffer(
            parameters.input_timeouts, parameters.instruction, parameters.sync_tolerance, now_ns()
        )
        self._node = node
        self._now_ns = now_ns
        self._camera_topics = {name: camera.topic for name, camera in parameters.cameras.items()}
        self._joint_state_topic = parameters.joint_state_topic
        self._joint_names = parameters.joint_names
        self._joint_state_publishers = PublisherCheck()
        self._subscriptions: list[Subscription] = []
        self._instructions: LatchedOrNot | None = None
        self._stale: set[str] = set()

    def subscribe(self) -> None:
        """Start to receive."""
        for camera, topic in self._camera_topics.items():
            self._add(image_type(topic), topic, partial(self._on_image, camera, is_compressed(topic)), NEWEST, raw=True)
        self._add(JointState, self._joint_state_topic, with_info(self._on_joint_states), NEWEST)
        self._add(Empty, HEARTBEAT_TOPIC, with_info(self._on_heartbeat), 1)
        self._instructions = LatchedOrNot(self._node, String, INSTRUCTION_TOPIC, with_info(self._on_instruction))

    def subscribe_latched(self) -> None:
        """Subscribe to latched instructions once there is a publisher that latches."""
        if self._instructions is not None:
            self._instructions.update()

    def close(self) -> None:
        """Destroy the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        if self._instructions is not None:
            self._instructions.close()

    def positions(self) -> np.ndarray:
        """Return the newest measured positions, float32 [joints], rad or m.

        Raises:
            ConversionError: the joint states lack a joint.
        """
        return positions_from_message(self.buffer.joint_states, self._joint_names)

    def measured(self) -> tuple[np.ndarray, int] | None:
        """Return the newest measured positions [joints], rad or m, and their stamp in ns.

        None if they are stale, incomplete or not finite.
        """
        stamp_ns = self.buffer.joint_states_stamp_ns
        if JOINT_STATES in self.buffer.stale_inputs(self._now_ns()):
            return None
        try:
            positions = self.positions()
        except ConversionError:
            return None
        return (positions, stamp_ns) if np.isfinite(positions).all() else None

    def conflict(self) -> str:
        """Return why the joint states cannot be trusted, whatever they say; empty if they can."""
        if not self._joint_state_publishers.several(time.monotonic()):
            return ""
        topic = self._node.resolve_topic_name(self._joint_state_topic)
        return (
            f"joint_states: several nodes publish on {topic}, and their messages alternate: stop all but one, or join "
            f"them into one topic (see ros2 topic info -v)"
        )

    def reset_log(self) -> None:
        """Let `stale` log every stale input again."""
        self._stale = set()

    def stale(self) -> dict[str, str]:
        """Return why inputs are stale, by their names; log those that became stale or fresh since the last call."""
        reasons = self.buffer.stale_inputs(self._now_ns())
        for name in reasons.keys() - self._stale:
            line = log_line("holding", event="stale_input", input=name, reason=reasons[name])
            self._node.get_logger().warning(line)
        for name in self._stale - reasons.keys():
            self._node.get_logger().info(log_line("input is fresh again", event="fresh_input", input=name))
        self._stale = set(reasons)
        return reasons

    def _add(self, *arguments: Any, **options: Any) -> None:
        self._subscriptions.append(self._node.create_subscription(*arguments, **options))

    def _on_image(self, camera: str, compressed: bool, raw: bytes) -> None:
        try:
            stamp_ns = serialized_stamp(raw)
        except (struct.error, IndexError):
            topic = self._camera_topics[camera]
            line = log_line("damaged message left out", event="damaged_message", topic=topic, bytes=len(raw))
            self._node.get_logger().warning(line, throttle_duration_sec=LOG_INTERVAL_S)
            return
        self.buffer.put(camera, stamp_ns, SerializedImage(raw, compressed), _sample(raw))

    def _on_joint_states(self, message: JointState, info: MessageInfo) -> None:
        self._joint_state_publishers.put(info.get("publication_sequence_number"), time.monotonic())
        content = np.array(message.position).tobytes()
        self.buffer.put(JOINT_STATES, nanoseconds(message.header.stamp), message, content)

    def _on_heartbeat(self, message: Empty, info: MessageInfo) -> None:
        self.buffer.put(HEARTBEAT, self._now_ns() - age_ns(info), message)

    def _on_instruction(self, message: String, info: MessageInfo) -> None:
        if message.data != self.buffer.instruction:
            line = log_line("new instruction", event="instruction", instruction=message.data[:200])
            self._node.get_logger().info(line, throttle_duration_sec=1.0)
        self.buffer.put(INSTRUCTION, self._now_ns() - age_ns(info), message.data)


def _sample(raw: bytes) -> bytes:
    """Return bytes from all over a serialized image, without its stamp."""
    return raw[STAMP_END :: max(1, len(raw) // SAMPLE_BYTES)]
