"""Controllers commanded through ROS actions; each goal preempts the one before."""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState

from pi0_ttnn_ros.controllers.base import ControllerError, ControllerSetup, joint_trajectory
from pi0_ttnn_ros.execution.chunk_executor import FROZEN_NS, Plan

GRIPPER_INTERVAL_NS = 100_000_000  # least time between two goals of a gripper in motion
# A controller that failed is sent nothing for this long: the robot rests, and the status says why.
PAUSE_S = 1.5


class FollowTrajectoryController:
    """A joint_trajectory_controller, or another server of FollowJointTrajectory.

    A goal is sent only when the last one is about to differ from the plan, some ten times a second: until then the
    controller moves as the plan itself would move it. When the newest goal is refused or aborted, `error` says so for
    a while, and then the next plan is sent.
    """

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        self._setup = setup
        action = _action("FollowJointTrajectory", "follow_joint_trajectory", setup)
        self._goal_type = action.Goal
        self._client = ActionClient(node, action, setup.topic)
        self._sent: Plan | None = None
        self._newest: Future | None = None
        self._failure = ""
        self._failed_at = -PAUSE_S

    @property
    def error(self) -> str:
        """Why the controller does not follow its commands; empty if it does."""
        if not self._client.server_is_ready():
            return f"{self._setup.topic}: there is no action server"
        return self._failure if time.monotonic() - self._failed_at < PAUSE_S else ""

    def publish(self, plan: Plan) -> None:
        """Send the plan as a goal, unless the last goal still agrees with it or the controller has failed."""
        if self.error or self._agrees_with_sent(plan):
            return
        self._sent = plan
        sending = self._client.send_goal_async(self._goal_type(trajectory=joint_trajectory(self._setup, plan)))
        self._newest = sending
        sending.add_done_callback(self._on_response)

    def close(self) -> None:
        """Destroy the action client; the goal under way is left to the controller."""
        self._newest = None
        self._client.destroy()

    def _agrees_with_sent(self, plan: Plan) -> bool:
        """Return whether the last goal moves the robot like `plan` until after the next call."""
        sent = self._sent
        if sent is None:
            return False
        soon = plan.times_ns <= FROZEN_NS + 2 * (plan.times_ns[1] - plan.times_ns[0])
        times_ns = np.minimum(plan.times_ns[soon] + plan.stamp_ns - sent.stamp_ns, sent.times_ns[-1])
        rows = np.searchsorted(sent.times_ns, times_ns)
        return np.array_equal(sent.times_ns[rows], times_ns) and np.allclose(
            sent.positions[rows], plan.positions[soon], rtol=0, atol=1e-9
        )

    def _on_response(self, sending: Future) -> None:
        handle: ClientGoalHandle = sending.result()
        if handle.accepted:
            handle.get_result_async().add_done_callback(lambda getting: self._on_result(sending, getting))
        elif sending is self._newest:
            self._fail("refused the goal; its log says why")

    def _on_result(self, sending: Future, getting: Future) -> None:
        # A goal that was preempted ends as aborted or cancelled: not a failure.
        response = getting.result()
        if sending is self._newest and response.status != GoalStatus.STATUS_SUCCEEDED:
            self._fail(f"ended the goal with code {response.result.error_code} {response.result.error_string!r}")

    def _fail(self, reason: str) -> None:
        self._failure, self._failed_at = f"{self._setup.topic}: the controller {reason}", time.monotonic()
        self._sent = None


class GripperController:
    """A gripper_action_controller, commanded to the position in which the plan ends."""

    error = ""
    action, controller_type = "GripperCommand", "gripper_command"

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        action = _action(self.action, self.controller_type, setup)
        if len(setup.joints) != 1:
            raise ControllerError(
                f"{setup.topic}: a {self.controller_type} controller has one joint, not {setup.joint_names}"
            )
        self._goal_type = action.Goal
        self._setup = setup
        self._client = ActionClient(node, action, setup.topic)
        self._last_position: float | None = None
        self._last_stamp_ns = 0

    def publish(self, plan: Plan) -> None:
        """Send the plan's last position as a goal, if it is new; in motion at most every `GRIPPER_INTERVAL_NS`."""
        position = float(plan.positions[-1, self._setup.joints[0]])
        early = 0 <= plan.stamp_ns - self._last_stamp_ns < GRIPPER_INTERVAL_NS
        if position == self._last_position or (early and not plan.at_rest) or not self._client.server_is_ready():
            return
        self._client.send_goal_async(self._goal(position))
        self._last_position, self._last_stamp_ns = position, plan.stamp_ns

    def close(self) -> None:
        """Destroy the action client."""
        self._client.destroy()

    def _goal(self, position: float) -> Any:
        goal = self._goal_type()
        goal.command.position, goal.command.max_effort = position, self._setup.max_effort
        return goal


class ParallelGripperController(GripperController):
    """A parallel_gripper_action_controller, which replaces the gripper_action_controller since Jazzy."""

    action, controller_type = "ParallelGripperCommand", "parallel_gripper_command"

    def _goal(self, position: float) -> Any:
        command = JointState(name=self._setup.joint_names, position=[position], effort=[self._setup.max_effort])
        return self._goal_type(command=command)


def _action(name: str, controller_type: str, setup: ControllerSetup) -> Any:
    """Return an action type of control_msgs, a package that not every robot has installed."""
    try:
        return getattr(importlib.import_module("control_msgs.action"), name)
    except (ImportError, AttributeError) as error:
        raise ControllerError(
            f"{setup.topic}: controllers of type {controller_type} need the package control_msgs ({error}): "
            f"install ros-${{ROS_DISTRO}}-control-msgs"
        ) from error
