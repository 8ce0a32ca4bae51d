"""Controllers commanded through ROS actions; each goal preempts the one before."""

from __future__ import annotations

import importlib
import threading
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
FAILURE_S = 1.5  # how long a failed goal is reported: the robot holds, and the status says why
ANSWER_S = 0.5  # an action server that leaves a goal unanswered for longer counts as failed
RETRY_S = 0.2  # after this time a goal that was not accepted is sent again


class ActionController:
    """Sends goals of one action, and keeps track of what became of the newest one. Thread-safe."""

    def __init__(self, node: Node, setup: ControllerSetup, action_name: str, controller_type: str) -> None:
        action = _action(action_name, controller_type, setup)
        self._setup = setup
        self._goal_type = action.Goal
        self._client = ActionClient(node, action, setup.topic)
        self._lock = threading.Lock()
        self._newest: Future | None = None
        self._accepted = True
        self._sent_at = -RETRY_S
        self._unanswered_since: float | None = None
        self._failure = ""
        self._failed_at = -FAILURE_S

    @property
    def error(self) -> str:
        """Why the controller does not follow its commands; empty if it does."""
        name, now = self._setup.topic, time.monotonic()
        if not self._client.server_is_ready():
            return f"{name}: there is no action server"
        with self._lock:
            if self._unanswered_since is not None and now - self._unanswered_since > ANSWER_S:
                return f"{name}: the action server has not answered a goal for more than {ANSWER_S:g} s"
            return f"{name}: the controller {self._failure}" if now - self._failed_at < FAILURE_S else ""

    def close(self) -> None:
        """Destroy the action client; the goal under way is left to the controller."""
        self._newest = None
        self._client.destroy()

    def _is_ready(self) -> bool:
        """Return whether there is an action server; if there is none, the next plan is new to it."""
        ready = self._client.server_is_ready()
        if not ready:
            with self._lock:
                self._accepted, self._sent_at = False, -RETRY_S
        return ready

    def _is_due_again(self) -> bool:
        """Return whether the newest goal has not been accepted for so long that it must be sent again."""
        with self._lock:
            return not self._accepted and time.monotonic() - self._sent_at >= RETRY_S

    def _send(self, goal: Any) -> None:
        sending = self._client.send_goal_async(goal)
        with self._lock:
            self._newest, self._accepted, self._sent_at = sending, False, time.monotonic()
            if self._unanswered_since is None:
                self._unanswered_since = self._sent_at
        sending.add_done_callback(self._on_response)

    def _on_response(self, sending: Future) -> None:
        handle: ClientGoalHandle = sending.result()
        with self._lock:
            is_newest = sending is self._newest
            self._unanswered_since = None if is_newest else self._sent_at
            self._accepted = self._accepted or (is_newest and handle.accepted)
        if handle.accepted:
            handle.get_result_async().add_done_callback(lambda getting: self._on_result(sending, getting))
        else:
            self._fail(sending, "refused the goal; its log says why")

    def _on_result(self, sending: Future, getting: Future) -> None:
        """React to the end of an accepted goal."""

    def _fail(self, sending: Future, reason: str) -> None:
        """Report a failure, unless another goal has replaced this one."""
        with self._lock:
            if sending is self._newest:
                self._accepted = False
                self._failure, self._failed_at = reason, time.monotonic()


class FollowTrajectoryController(ActionController):
    """A joint_trajectory_controller, or another server of FollowJointTrajectory.

    A goal is sent only when the last one is about to differ from the plan, some ten times a second: until then the
    controller moves as the plan itself would move it. While the newest goal is refused, aborted or not answered,
    `error` says so and the robot holds. The hold is sent at once, since the controller still moves as the goal before
    says. Goals are not cancelled: a joint_trajectory_controller then stops without braking.
    """

    # At rest nothing is sent again: each goal ends at rest, and meanwhile the arm may have been moved.
    pending = False

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        super().__init__(node, setup, "FollowJointTrajectory", "follow_joint_trajectory")
        self._sent: Plan | None = None

    def publish(self, plan: Plan) -> None:
        """Send the plan as a goal, unless the last goal agrees with it; one that was not accepted only for a while."""
        if self._is_ready() and (self._is_due_again() or not self._agrees_with_sent(plan)):
            self._sent = plan
            self._send(self._goal_type(trajectory=joint_trajectory(self._setup, plan)))

    def _agrees_with_sent(self, plan: Plan) -> bool:
        """Return whether the last goal moves the robot like `plan` until after the next call."""
        sent = self._sent
        if sent is None:
            return False
        # The next call may be a period late.
        soon = plan.stamp_ns + plan.times_ns <= 2 * plan.next_ns - plan.now_ns + FROZEN_NS
        times_ns = np.minimum(plan.times_ns[soon] + plan.stamp_ns - sent.stamp_ns, sent.times_ns[-1])
        rows = np.searchsorted(sent.times_ns, times_ns)
        return np.array_equal(sent.times_ns[rows], times_ns) and np.allclose(
            sent.positions[rows], plan.positions[soon], rtol=0, atol=1e-9
        )

    def _on_result(self, sending: Future, getting: Future) -> None:
        # A goal that was preempted ends as aborted or cancelled, too, but is no longer the newest.
        response = getting.result()
        if response.status != GoalStatus.STATUS_SUCCEEDED:
            self._fail(
                sending, f"ended the goal with code {response.result.error_code} {response.result.error_string!r}"
            )


class GripperController(ActionController):
    """A gripper_action_controller, commanded to the position in which the plan ends.

    How a goal ends is not judged: a gripper that holds something does not reach its position.
    """

    action_name, controller_type = "GripperCommand", "gripper_command"

    def __init__(self, node: Node, setup: ControllerSetup) -> None:
        if len(setup.joints) != 1:
            raise ControllerError(
                f"{setup.topic}: a {self.controller_type} controller has one joint, not {setup.joint_names}"
            )
        super().__init__(node, setup, self.action_name, self.controller_type)
        self._last_position: float | None = None
        self._last_stamp_ns = 0

    @property
    def pending(self) -> bool:
        """Whether the newest position has not been accepted: it is published again although the robot rests."""
        with self._lock:
            return not self._accepted

    def publish(self, plan: Plan) -> None:
        """Send the plan's last position as a goal, if it is new or was not accepted.

        While the robot moves a new position is sent at most every `GRIPPER_INTERVAL_NS`.
        """
        if not self._is_ready():
            return
        position = float(plan.positions[-1, self._setup.joints[0]])
        early = 0 <= plan.stamp_ns - self._last_stamp_ns < GRIPPER_INTERVAL_NS
        is_new = position != self._last_position and (plan.at_rest or not early)
        if is_new or self._is_due_again():
            self._last_position, self._last_stamp_ns = position, plan.stamp_ns
            self._send(self._goal(position))

    def _goal(self, position: float) -> Any:
        goal = self._goal_type()
        goal.command.position, goal.command.max_effort = position, self._setup.max_effort
        return goal


class ParallelGripperController(GripperController):
    """A parallel_gripper_action_controller, which replaces the gripper_action_controller since Jazzy."""

    action_name, controller_type = "ParallelGripperCommand", "parallel_gripper_command"

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
