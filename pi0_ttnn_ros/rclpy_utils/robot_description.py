"""The robot's URDF, received from the topic `robot_description`."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import String

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.topics import ROBOT_DESCRIPTION
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from pi0_ttnn_ros.rclpy_utils.receive import receive_one_of_each


def robot_description(node: Node, missing: list[str], timeout: float, while_waiting: Callable[[], None]) -> str:
    """Return the published URDF; "" if nobody publishes one and no parameters are `missing`, which it would replace.

    To be called once the node has received something of the robot, so that it knows of its publishers.

    `while_waiting` is that of `receive_one_of_each`.

    Raises:
        ParameterError: nothing arrived within `timeout` seconds.
    """
    topic = node.resolve_topic_name(ROBOT_DESCRIPTION)
    if not missing and not node.count_publishers(topic):
        return ""
    (message,) = receive_one_of_each(node, [(String, topic)], LATCHED, timeout, while_waiting)
    if message is None and missing:
        raise ParameterError(f"parameters {missing} are not set, and nothing arrived on {topic} in {timeout:g} s")
    if message is None:
        raise ParameterError(
            f"joint_limits cannot be checked: {topic} has a publisher, but nothing arrived in {timeout:g} s; "
            f"allow_wider_limits: true does without"
        )
    return message.data
