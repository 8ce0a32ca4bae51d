"""Receive one message of each topic while the calling node cannot spin, as during a transition."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from pi0_ttnn_ros.rclpy_utils.helper_node import helper_node


def receive_one_of_each(
    node: Node, topics: Sequence[tuple[type, str]], qos: QoSProfile, timeout: float, while_waiting: Callable[[], None]
) -> list[Any | None]:
    """Return the first message of each topic, or None where nothing arrived within `timeout` seconds.

    Args:
        node: node on whose behalf to receive; a probe node beside it subscribes and spins.
        topics: message type and full name of each topic.
        qos: profile of all subscriptions.
        timeout: s.
        while_waiting: called about ten times a second; what it raises ends the wait.
    """
    received: list[list[Any]] = [[] for _ in topics]
    probe = helper_node(node, "probe")
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(probe)
    try:
        for messages, (message_type, topic) in zip(received, topics, strict=True):
            probe.create_subscription(message_type, topic, messages.append, qos)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not all(received):
            executor.spin_once(timeout_sec=0.1)
            while_waiting()
    finally:
        executor.shutdown()
        probe.destroy_node()
    return [messages[0] if messages else None for messages in received]
