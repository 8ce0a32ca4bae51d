"""ALOHA's two follower arms, driven by Interbotix's xs_sdk, as the one robot that config/aloha.yaml describes.

xs_sdk has separate topics for each arm, messages of its own and no trajectories. This node merges the arms' joint
states, with grippers from 0 (closed) to 1 (open), and follows trajectories of both arms as a
joint_trajectory_controller does.
"""

from __future__ import annotations

import importlib
import sys
from functools import partial

import numpy as np
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.aloha.joints import ARM_JOINTS, JOINT_NAMES
from pi0_ttnn_ros.aloha.trajectory_follower import TrajectoryError, TrajectoryFollower, trajectory_from_message
from pi0_ttnn_ros.observation.decoding import positions_from_message
from pi0_ttnn_ros.observation.images import ConversionError
from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.rclpy_utils.messages import time_message
from pi0_ttnn_ros.rclpy_utils.run_node import run_node
from pi0_ttnn_ros.system.scheduling import Priority, use_realtime_priority

ARM = len(ARM_JOINTS)
STALE_NS = 500_000_000  # no motion starts from joint states older than this


class InterbotixBridge(Node):
    """The topics of two arms on one side, those of one robot on the other."""

    def __init__(self) -> None:
        """Create the topics; nothing is commanded before the first trajectory."""
        super().__init__("interbotix_bridge")
        try:
            messages = importlib.import_module("interbotix_xs_msgs.msg")  # rosdep cannot install it
        except ImportError as error:
            sys.exit(f"interbotix_bridge: package interbotix_xs_msgs is missing ({error}): source its workspace")
        self._group_type, self._single_type = messages.JointGroupCommand, messages.JointSingleCommand
        arms = self.declare_parameter("arms", ["follower_left", "follower_right"]).value
        # Closed and open, from `aloha/constants.py` of Interbotix's ALOHA 2.0: the finger in m, the motor in rad.
        self._finger = self.declare_parameter("finger_range", [0.0440, 0.0579]).value
        self._motor = self.declare_parameter("gripper_range", [0.6197, 1.6214]).value
        rate = self.declare_parameter("command_rate", 100.0).value
        self._states: list[JointState | None] = [None for _ in arms]
        self._follower: TrajectoryFollower | None = None
        self._end_ns = 0
        self._joint_states = self.create_publisher(JointState, "joint_states", qos_profile_sensor_data)
        self._groups = [self.create_publisher(self._group_type, f"{arm}/commands/joint_group", 1) for arm in arms]
        self._singles = [self.create_publisher(self._single_type, f"{arm}/commands/joint_single", 1) for arm in arms]
        for number, arm in enumerate(arms):
            topic = f"{arm}/joint_states"
            self.create_subscription(JointState, topic, partial(self._on_state, number), qos_profile_sensor_data)
        self.create_subscription(JointTrajectory, "joint_trajectory_controller/joint_trajectory", self._follow, 10)
        self.create_timer(1.0 / rate, self._command)

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_state(self, arm: int, message: JointState) -> None:
        self._states[arm] = message
        if arm != len(self._states) - 1:
            return
        try:
            positions, stamp_ns = self._measured()
        except ConversionError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)
            return
        # With the older arm's stamp: a subscriber that checks for fresh stamps notices when one arm is lost.
        merged = JointState(name=JOINT_NAMES, position=positions.tolist())
        merged.header.stamp = time_message(stamp_ns)
        self._joint_states.publish(merged)

    def _measured(self) -> tuple[np.ndarray, int]:
        """Return positions [joints] of both arms, and the older of their stamps in nanoseconds.

        Raises:
            ConversionError: an arm has published no joint states yet, or a joint is missing.
        """
        positions, stamps = [], []
        for state in self._states:
            if state is None:
                raise ConversionError("one of the arms has published no joint states yet")
            arm = positions_from_message(state, [*ARM_JOINTS, "left_finger"])
            closed, opened = self._finger
            arm[ARM] = (arm[ARM] - closed) / (opened - closed)
            positions.append(arm)
            stamps.append(nanoseconds(state.header.stamp))
        return np.concatenate(positions).astype(np.float64), min(stamps)

    def _follow(self, message: JointTrajectory) -> None:
        now_ns = self._now_ns()
        try:
            waypoints = trajectory_from_message(message, JOINT_NAMES, now_ns)
            if self._follower is None:  # the arms rested, and somebody may have moved them
                positions, stamp_ns = self._measured()
                if now_ns - stamp_ns > STALE_NS:
                    raise ConversionError(f"the joint states are {(now_ns - stamp_ns) * 1e-9:.2f} s old")
                follower = TrajectoryFollower(positions)
                follower.replace(waypoints, now_ns)
                self._follower = follower
            else:
                self._follower.replace(waypoints, now_ns)
            self._end_ns = waypoints.start_ns + int(waypoints.times_ns[-1])
        except (TrajectoryError, ConversionError) as error:
            self.get_logger().error(f"trajectory refused: {error}", throttle_duration_sec=1.0)

    def _command(self) -> None:
        if self._follower is None:
            return
        now_ns = self._now_ns()
        positions, _ = self._follower.sample(now_ns)
        closed, opened = self._motor
        for group, single, arm in zip(self._groups, self._singles, np.split(positions, len(self._groups)), strict=True):
            group.publish(self._group_type(name="arm", cmd=arm[:ARM].tolist()))
            single.publish(self._single_type(name="gripper", cmd=float(closed + arm[ARM] * (opened - closed))))
        if now_ns >= self._end_ns:
            self._follower = None


def main() -> None:
    """Run the node until SIGINT or SIGTERM; the arms stay where they were last commanded to be."""
    use_realtime_priority(Priority.COMMANDS)
    run_node(lambda stopping: InterbotixBridge())


if __name__ == "__main__":
    main()
