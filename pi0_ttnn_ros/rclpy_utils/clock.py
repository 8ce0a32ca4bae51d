"""A node's clock that keeps running while the node is in a callback."""

from __future__ import annotations

from rclpy.node import Node

from pi0_ttnn_ros.rclpy_utils.side_node import SideNode


class NodeClock:
    """The time of a node. With `use_sim_time`, a node beside it receives /clock.

    A callback that waits for the robot to come to rest would otherwise wait forever.
    """

    def __init__(self, node: Node) -> None:
        self._clock = node.get_clock()
        self._side_node: SideNode | None = None
        if node.get_parameter("use_sim_time").value:
            self._side_node = SideNode(node, "clock", use_sim_time=True)
            self._clock = self._side_node.node.get_clock()
            self._side_node.start()

    def now_ns(self) -> int:
        """Return the time of the node's clock."""
        return self._clock.now().nanoseconds

    def close(self) -> None:
        """Stop to receive /clock."""
        if self._side_node is not None:
            self._side_node.close()
            self._side_node = None
