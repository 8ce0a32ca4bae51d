"""A node's clock that keeps running while the node is in a callback."""

from __future__ import annotations

import threading

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from pi0_ttnn_ros.rclpy_utils.helper_node import helper_node


class NodeClock:
    """The time of a node. With `use_sim_time`, a helper node receives /clock in a thread of its own.

    The node itself receives nothing while one of its callbacks runs: a callback that waits for the robot to come to
    rest would wait forever.
    """

    def __init__(self, node: Node) -> None:
        self._clock = node.get_clock()
        self._helper: Node | None = None
        if node.get_parameter("use_sim_time").value:
            self._helper = helper_node(node, "clock", use_sim_time=True)
            self._clock = self._helper.get_clock()
            self._executor = SingleThreadedExecutor(context=node.context)
            self._executor.add_node(self._helper)
            self._thread = threading.Thread(target=self._spin, name="clock", daemon=True)
            self._thread.start()

    def now_ns(self) -> int:
        """Return the time of the node's clock."""
        return self._clock.now().nanoseconds

    def close(self) -> None:
        """Stop the helper node."""
        if self._helper is not None:
            self._executor.shutdown()
            self._thread.join()
            self._helper.destroy_node()
            self._helper = None

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
