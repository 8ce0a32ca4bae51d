"""A node beside another one, spun by a thread of its own."""

from __future__ import annotations

import threading
import traceback
from typing import Any

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from pi0_ttnn_ros.rclpy_utils.helper_node import helper_node
from pi0_ttnn_ros.rclpy_utils.logs import log_line


class SideNode:
    """A node beside another one. Its callbacks run in a thread of their own, whatever the other one is busy with.

    A node receives nothing while one of its callbacks runs, and rclpy spins a node in one executor only.

    Attributes:
        node: where to create subscriptions and services, before `start`. Give them full names: `~` is its own name.
    """

    def __init__(self, node: Node, suffix: str, **parameters: Any) -> None:
        """Create the node, see `helper_node`."""
        self.node = helper_node(node, suffix, **parameters)
        self._logger = node.get_logger()
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self.node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=suffix, daemon=True)

    def start(self) -> None:
        """Start to receive."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and destroy the node."""
        self._closing.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()

    def _spin(self) -> None:
        while not self._closing.is_set():
            try:
                self._executor.spin_once(timeout_sec=0.1)
            except ExternalShutdownException:
                return
            except Exception:  # of one callback: the others stay in service
                line = log_line("callback failed", event="callback_failed", node=self.node.get_name())
                self._logger.error(f"{line}\n{traceback.format_exc().rstrip()}")
