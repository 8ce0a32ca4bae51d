"""Controllers commanded by a topic."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.controllers.base import ControllerSetup, joint_trajectory
from pi0_ttnn_ros.execution.chunk_executor import Plan


def missing_subscriber(publisher: Publisher) -> str:
    """Return that nobody subscribes to the commands; empty if somebody does."""
    if publisher.get_subscription_count():
        return ""
    return f"nobody subscribes to {publisher.topic_name}: load the controller, or correct its topic"


class TrajectoryController:
    """A joint_trajectory_controller, commanded by its topic."""

    pending = False

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        self._node = node
        self._setup = setup
        self._publisher = node.create_publisher(JointTrajectory, setup.topic, 1)

    @property
    def error(self) -> str:
        """Why the controller does not follow its commands; empty if it may."""
        return missing_subscriber(self._publisher)

    def publish(self, plan: Plan) -> None:
        """Publish the plan as a trajectory."""
        self._publisher.publish(joint_trajectory(self._setup, plan))

    def close(self) -> None:
        """Destroy the publisher."""
        self._node.destroy_publisher(self._publisher)


class PositionController:
    """A forward_command_controller of positions, commanded the next position of the plan each time."""

    pending = False

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        self._node = node
        self._joints = setup.joints
        self._publisher = node.create_publisher(Float64MultiArray, setup.topic, 1)

    @property
    def error(self) -> str:
        """Why the controller does not follow its commands; empty if it may."""
        return missing_subscriber(self._publisher)

    def publish(self, plan: Plan) -> None:
        """Publish the plan's next positions."""
        self._publisher.publish(Float64MultiArray(data=plan.next_positions[self._joints].tolist()))

    def close(self) -> None:
        """Destroy the publisher."""
        self._node.destroy_publisher(self._publisher)
