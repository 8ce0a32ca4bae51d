"""Spin a node until SIGINT or SIGTERM, then shut it down in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

NodeType = TypeVar("NodeType", bound=Node)


def run_node(
    make_node: Callable[[threading.Event], NodeType], end: Callable[[NodeType], None] = lambda node: None
) -> None:
    """Spin a node until SIGINT or SIGTERM, call `end` while it can still publish, then shut down.

    `make_node` takes an event that is set when the signal arrives, for callbacks that take long.
    """
    # With rclpy's own handlers the context would be gone before `end` could publish.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    node = make_node(stopping)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stopping.is_set():
            executor.spin_once(timeout_sec=0.1)
    finally:
        end(node)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()
