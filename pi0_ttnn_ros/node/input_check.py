"""Before the robot moves: does every input arrive, with the right type, and can its messages be used?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState

from pi0_ttnn_ros.observation.decoding import ConversionError, image_from_message, positions_from_message
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.rclpy_utils.messages import image_type


class InputCheckError(ValueError):
    """An input that is not there or cannot be used; the message names the topic and the remedy."""


@dataclass
class _Input:
    label: str
    topic: str
    message_type: type
    use: Callable[[Any], object]
    messages: list[Any] = field(default_factory=list)

    @property
    def type_name(self) -> str:
        return f"{self.message_type.__module__.split('.')[0]}/msg/{self.message_type.__name__}"


def check_inputs(node: Node, parameters: Parameters) -> None:
    """Wait for one message of every input, up to `input_wait` seconds, and try to use each.

    Raises:
        InputCheckError: a topic has no publisher or another type, nothing arrives, a joint is unknown, or an image
            cannot be decoded.
    """
    inputs = [
        _Input(f"camera {camera!r}", node.resolve_topic_name(topic), image_type(topic), image_from_message)
        for camera, topic in zip(parameters.cameras, parameters.camera_topics, strict=True)
    ]
    joint_states = node.resolve_topic_name(parameters.joint_state_topic)
    inputs.append(
        _Input(
            "joint states",
            joint_states,
            JointState,
            partial(positions_from_message, joint_names=parameters.joint_names),
        )
    )
    _receive(node, inputs, parameters.input_wait)
    for entry in inputs:
        _check(node, entry, parameters.input_wait)


def _receive(node: Node, inputs: list[_Input], timeout: float) -> None:
    """Receive on a node of its own: the calling node is in a transition and cannot spin."""
    probe = Node(f"{node.get_name()}_input_check", context=node.context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(probe)
    try:
        for entry in inputs:
            probe.create_subscription(entry.message_type, entry.topic, entry.messages.append, qos_profile_sensor_data)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not all(entry.messages for entry in inputs):
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        probe.destroy_node()


def _check(node: Node, entry: _Input, timeout: float) -> None:
    if entry.messages:
        try:
            entry.use(entry.messages[0])
        except ConversionError as error:
            raise InputCheckError(f"{entry.label}: {entry.topic}: {error}") from error
        return
    types = {info.topic_type for info in node.get_publishers_info_by_topic(entry.topic)}
    if entry.type_name in types:
        raise InputCheckError(f"{entry.label}: {entry.topic} has a publisher, but no message arrived in {timeout:g} s")
    if types:
        raise InputCheckError(f"{entry.label}: {entry.topic} carries {sorted(types)}, expected {entry.type_name}")
    others = sorted(topic for topic, kinds in node.get_topic_names_and_types() if entry.type_name in kinds)
    raise InputCheckError(
        f"{entry.label}: nobody publishes {entry.topic}; topics of type {entry.type_name} here: {others or 'none'}"
    )
