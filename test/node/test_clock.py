"""The node's clock says when /clock stands still, also for simulators that are slow."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from pi0_ttnn_ros.rclpy_utils.clock import STOPPED_INTERVALS, STOPPED_S, NodeClock
from pi0_ttnn_ros.rclpy_utils.messages import time_message
from pi0_ttnn_ros.rclpy_utils.qos import NEWEST
from support.waiting import wait_until

INTERVAL = 0.8  # s, longer than STOPPED_S
TICK_NS = 20_000_000


@pytest.fixture
def node(ros):
    node = Node("simulated", namespace="/test_clock", parameter_overrides=[Parameter("use_sim_time", value=True)])
    yield node
    node.destroy_node()


def test_slow_clock_runs(node):
    """A clock with long intervals runs; once it stops that is reported, after several intervals."""
    publisher = node.create_publisher(Clock, "/clock", NEWEST)
    clock = NodeClock(node)
    try:
        wait_until(lambda: publisher.get_subscription_count() >= 2, "subscriptions")
        start_ns = clock.now_ns() + 10**9
        for tick in range(5):
            time_ns = start_ns + tick * TICK_NS
            sent = time.monotonic()
            publisher.publish(Clock(clock=time_message(time_ns)))
            wait_until(lambda time_ns=time_ns: clock.now_ns() == time_ns, "the tick")
            wait_until(lambda sent=sent: time.monotonic() >= sent + INTERVAL, "the next tick")
            assert tick == 0 or not clock.stopped_for  # after the first tick nothing is known of the interval
        wait_until(lambda: clock.stopped_for, "the report")
        assert clock.stopped_for > max(STOPPED_S, STOPPED_INTERVALS * INTERVAL)
    finally:
        clock.close()
