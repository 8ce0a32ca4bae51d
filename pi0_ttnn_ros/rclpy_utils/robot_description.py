"""The URDF from the topic `robot_description`."""

from __future__ import annotations

import time

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from pi0_ttnn_ros.parameters.parameters import ParameterError
from pi0_ttnn_ros.parameters.topics import TOPIC


def robot_description(node: Node, missing: list[str], timeout: float) -> str:
    """Return the URDF that is published within `timeout` seconds; it is to say what the parameters `missing` do not.

    Raises:
        ParameterError: nothing arrived.
    """
    # On a node of its own: the calling node is in a transition and cannot spin.
    topic = node.resolve_topic_name(TOPIC)
    probe = Node(f"{node.get_name()}_description", context=node.context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(probe)
    heard: list[String] = []
    try:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        probe.create_subscription(String, topic, heard.append, latched)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not heard:
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        probe.destroy_node()
    if not heard:
        raise ParameterError(f"parameters {missing} are not set, and nothing arrived on {topic} in {timeout:g} s")
    return heard[0].data
