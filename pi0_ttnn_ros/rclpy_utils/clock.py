"""A node's clock that keeps running while the node is in a callback, and says when it stands still."""

from __future__ import annotations

import time

from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.rclpy_utils.qos import NEWEST
from pi0_ttnn_ros.rclpy_utils.side_node import SideNode

# /clock has stopped when it does not advance for this long and for this many of its intervals, which are long if the
# simulator runs at a hundredth of real time.
STOPPED_S = 0.5
STOPPED_INTERVALS = 5
INTERVAL_DECAY = 0.9  # per tick, so that a long interval is forgotten


class NodeClock:
    """The time of a node. With `use_sim_time`, a node beside it receives /clock.

    A callback that waits for the robot to come to rest would otherwise wait forever.
    """

    def __init__(self, node: Node) -> None:
        self._clock = node.get_clock()
        self._side_node: SideNode | None = None
        self._time_ns = 0
        self._last_tick = time.monotonic()
        self._interval = 0.0  # s, of real time between two ticks; the longest of late
        if node.get_parameter("use_sim_time").value:
            self._side_node = SideNode(node, "clock", use_sim_time=True)
            self._clock = self._side_node.node.get_clock()
            self._side_node.node.create_subscription(Clock, "/clock", self._on_tick, NEWEST)
            self._side_node.start()

    def now_ns(self) -> int:
        """Return the time of the node's clock."""
        return self._clock.now().nanoseconds

    @property
    def stopped_for(self) -> float:
        """Seconds of real time for which /clock has stood still; 0 while it runs, and without `use_sim_time`."""
        still = time.monotonic() - self._last_tick
        return still if self._side_node and still > max(STOPPED_S, STOPPED_INTERVALS * self._interval) else 0.0

    def close(self) -> None:
        """Stop to receive /clock."""
        if self._side_node is not None:
            self._side_node.close()
            self._side_node = None

    def _on_tick(self, message: Clock) -> None:
        time_ns = nanoseconds(message.clock)
        if time_ns == self._time_ns:
            return
        now = time.monotonic()
        if self._time_ns:
            self._interval = max(now - self._last_tick, INTERVAL_DECAY * self._interval)
        self._time_ns, self._last_tick = time_ns, now
