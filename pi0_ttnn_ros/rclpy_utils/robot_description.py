"""The robot's URDF, received from the topic `robot_description`."""

from __future__ import annotations

from rclpy.node import Node
from std_msgs.msg import String

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.topics import ROBOT_DESCRIPTION
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from pi0_ttnn_ros.rclpy_utils.receive import receive_one_of_each


def robot_description(node: Node, missing: list[str], timeout: float) -> str:
    """Return the URDF published within `timeout` seconds; `missing` names the parameters it has to replace.

    Raises:
        ParameterError: nothing arrived.
    """
    topic = node.resolve_topic_name(ROBOT_DESCRIPTION)
    (message,) = receive_one_of_each(node, [(String, topic)], LATCHED, timeout)
    if message is None:
        raise ParameterError(f"parameters {missing} are not set, and nothing arrived on {topic} in {timeout:g} s")
    return message.data
