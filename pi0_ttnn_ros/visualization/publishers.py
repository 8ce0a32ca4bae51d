"""Visualization topics: annotated images and predicted paths. Computed only while subscribed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import ColorRGBA, String
from visualization_msgs.msg import Marker, MarkerArray

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.parameters.topics import ROBOT_DESCRIPTION
from pi0_ttnn_ros.rclpy_utils.messages import duration_message, time_message
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from pi0_ttnn_ros.visualization.annotated_image import annotated_image
from pi0_ttnn_ros.visualization.kinematics import Kinematics, KinematicsError

WIDTH = 0.005  # m, of a path
LIFETIME_NS = 1_000_000_000  # of a path that no other follows
FIRST, LAST = np.array([0.1, 0.9, 0.2]), np.array([0.9, 0.1, 0.1])  # RGB of the first and of the last action


class Introspection:
    """Publishes ~/image_annotated and ~/predicted_trajectory."""

    def __init__(self, node: Node, joint_names: list[str], links: list[str]) -> None:
        """Create the publishers and receive the robot description.

        Args:
            node: node to create them on.
            joint_names: joints of each action, in order.
            links: links whose paths are drawn; empty for the child links of the last joints.
        """
        self._node = node
        self._joint_names = joint_names
        self._links = links
        self._kinematics: Kinematics | None = None
        self._warned = False
        self._images = node.create_publisher(Image, "~/image_annotated", 1)
        self._markers = node.create_publisher(MarkerArray, "~/predicted_trajectory", 1)
        self._description = node.create_subscription(String, ROBOT_DESCRIPTION, self._on_description, LATCHED)

    @property
    def wants_image(self) -> bool:
        """Whether ~/image_annotated has a subscriber."""
        return self._images.get_subscription_count() > 0

    def publish_image(self, stamp: Time, images: Mapping[str, np.ndarray], lines: list[str]) -> None:
        """Publish the cameras' images (uint8 [height, width, 3], RGB) with lines of text below them."""
        picture = annotated_image(images, lines)
        height, width, _ = picture.shape
        message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        message.header.stamp = stamp
        message.data.frombytes(picture.tobytes())
        self._images.publish(message)

    def publish_trajectory(self, chunk: ActionChunk) -> None:
        """Publish the paths of the links through a chunk, if there is a subscriber."""
        if self._markers.get_subscription_count() == 0:
            return
        if self._kinematics is None:
            topic = self._node.resolve_topic_name(ROBOT_DESCRIPTION)
            self._warn_once(f"no paths are drawn: nothing received on {topic} yet")
            return
        try:
            self._markers.publish(trajectory_markers(self._kinematics, self._links, chunk))
        except KinematicsError as error:
            self._warn_once(f"no paths are drawn: marker_links: {error}")

    def close(self) -> None:
        """Destroy the publishers and the subscription."""
        for publisher in (self._images, self._markers):
            self._node.destroy_publisher(publisher)
        self._node.destroy_subscription(self._description)

    def _on_description(self, message: String) -> None:
        try:
            self._kinematics = Kinematics(message.data, self._joint_names)
            self._warned = False
        except KinematicsError as error:
            self._warn_once(f"no paths are drawn: {error}")

    def _warn_once(self, text: str) -> None:
        if not self._warned:
            self._node.get_logger().warning(text)
        self._warned = True


def trajectory_markers(kinematics: Kinematics, links: list[str], chunk: ActionChunk) -> MarkerArray:
    """Return the path of each link through a chunk, in the frame of the URDF's root.

    Args:
        kinematics: the robot's kinematics.
        links: names of the links; empty for the child links of the last joints.
        chunk: the chunk.

    Raises:
        KinematicsError: the URDF does not have such a link.
    """
    fractions = np.linspace(0, 1, len(chunk.actions))[:, None]
    colors = [ColorRGBA(r=r, g=g, b=b, a=1.0) for r, g, b in FIRST + fractions * (LAST - FIRST)]
    markers = []
    for link in links or kinematics.ends():
        marker = Marker(ns=link, type=Marker.LINE_STRIP, action=Marker.ADD, lifetime=duration_message(LIFETIME_NS))
        marker.header.frame_id = kinematics.root
        marker.header.stamp = time_message(chunk.stamp_ns)
        marker.pose.orientation.w = 1.0
        marker.scale.x = WIDTH
        marker.points = [Point(x=x, y=y, z=z) for x, y, z in kinematics.positions(link, chunk.actions)]
        marker.colors = colors
        markers.append(marker)
    return MarkerArray(markers=markers)
