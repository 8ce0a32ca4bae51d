"""An action server of FollowJointTrajectory, as a controller has it."""

from __future__ import annotations

from typing import Any

from rclpy.action import ActionServer, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory


class TrajectoryServer:
    """Accepts goals as a joint_trajectory_controller does: each goal preempts the one before.

    Attributes:
        failure: "refused" or "aborted" if that is what happens to each goal, else empty.
        received: the trajectories of all goals.
        goals: those of the accepted ones.
        ended: number of goals that were preempted or aborted.
    """

    def __init__(self, node: Node, name: str) -> None:
        from control_msgs.action import FollowJointTrajectory

        self.failure = ""
        self.received: list[JointTrajectory] = []
        self.goals: list[JointTrajectory] = []
        self.ended = 0
        self._result_type = FollowJointTrajectory.Result
        self._followed: ServerGoalHandle | None = None
        self._server = ActionServer(
            node,
            FollowJointTrajectory,
            name,
            self._end,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._follow,
        )

    def close(self) -> None:
        """Remove the server."""
        self._server.destroy()

    def _on_goal(self, goal: Any) -> GoalResponse:
        self.received.append(goal.trajectory)
        if self.failure == "refused":
            return GoalResponse.REJECT
        self.goals.append(goal.trajectory)
        return GoalResponse.ACCEPT

    def _follow(self, handle: ServerGoalHandle) -> None:
        replaced, self._followed = self._followed, handle
        if self.failure == "aborted":
            replaced, self._followed = handle, None
        if replaced is not None:
            replaced.execute()

    def _end(self, handle: ServerGoalHandle) -> Any:
        handle.abort()
        self.ended += 1
        result = self._result_type
        code = result.PATH_TOLERANCE_VIOLATED if self.failure == "aborted" else result.INVALID_GOAL
        return result(error_code=code, error_string="played")
