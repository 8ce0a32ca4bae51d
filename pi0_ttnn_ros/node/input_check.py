"""Check before the robot moves that every input arrives, with the right type, and that its messages can be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState

from pi0_ttnn_ros.observation.decoding import positions_from_message
from pi0_ttnn_ros.observation.images import ConversionError
from pi0_ttnn_ros.observation.pixels import image_from_message
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.rclpy_utils.messages import image_type
from pi0_ttnn_ros.rclpy_utils.receive import receive_one_of_each


class InputCheckError(ValueError):
    """An input is missing or cannot be used; the message names the topic and the remedy."""


@dataclass(frozen=True)
class _Input:
    """One input of the policy.

    Attributes:
        label: what it is, in words.
        topic: full name of its topic.
        message_type: type that is expected there.
        decode: function that decodes a message, or raises ConversionError.
    """

    label: str
    topic: str
    message_type: type
    decode: Callable[[Any], object]

    @property
    def type_name(self) -> str:
        return f"{self.message_type.__module__.split('.')[0]}/msg/{self.message_type.__name__}"


def check_inputs(node: Node, parameters: Parameters, while_waiting: Callable[[], None]) -> None:
    """Wait up to `input_wait` seconds for one message of every input, and try to decode each.

    `while_waiting` is that of `receive_one_of_each`.

    Raises:
        InputCheckError: a topic has no publisher or another type, nothing arrives, a joint is unknown, or an image
            cannot be decoded.
    """
    inputs = [
        _Input(f"camera {name!r}", node.resolve_topic_name(camera.topic), image_type(camera.topic), image_from_message)
        for name, camera in parameters.cameras.items()
    ]
    joint_states = node.resolve_topic_name(parameters.joint_state_topic)
    decode = partial(positions_from_message, joint_names=parameters.joint_names)
    inputs.append(_Input("joint states", joint_states, JointState, decode))
    topics = [(source.message_type, source.topic) for source in inputs]
    messages = receive_one_of_each(node, topics, qos_profile_sensor_data, parameters.input_wait, while_waiting)
    for source, message in zip(inputs, messages, strict=True):
        if message is None:
            raise InputCheckError(f"{source.label}: {_why_missing(node, source, parameters.input_wait)}")
        try:
            source.decode(message)
        except ConversionError as error:
            raise InputCheckError(f"{source.label}: {source.topic}: {error}") from error


def _why_missing(node: Node, source: _Input, timeout: float) -> str:
    """Return why no message arrived, as far as the graph shows it."""
    types = {info.topic_type for info in node.get_publishers_info_by_topic(source.topic)}
    if source.type_name in types:
        return f"{source.topic} has a publisher, but no message arrived in {timeout:g} s"
    if types:
        return f"{source.topic} carries {sorted(types)}, expected {source.type_name}"
    others = sorted(topic for topic, kinds in node.get_topic_names_and_types() if source.type_name in kinds)
    return f"nobody publishes {source.topic}; topics of type {source.type_name}: {others or 'none'}"
