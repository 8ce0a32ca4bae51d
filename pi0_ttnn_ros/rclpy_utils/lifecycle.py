"""A lifecycle node that survives invalid transitions, and logs what its transitions raise."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from lifecycle_msgs.srv import ChangeState
from rclpy._rclpy_pybind11 import RCLError
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from pi0_ttnn_ros.rclpy_utils.logs import log_line

NodeType = TypeVar("NodeType", bound=LifecycleNode)
Transition = Callable[[NodeType, LifecycleState], TransitionCallbackReturn]


class ManagedNode(LifecycleNode):
    """A lifecycle node that answers a transition its state does not allow with failure.

    In rclpy up to Jazzy the service's callback raises RCLError, which ends the node
    (https://github.com/ros2/rclpy/issues/1209). The callback is private, so the override needs its mangled name.
    """

    def _LifecycleNodeMixin__on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)  # type: ignore[misc]
        except RCLError as error:
            line = log_line("transition refused", state=self._state_machine.current_state[1], reason=error)
            self.get_logger().warning(line)
            response.success = False
            return response


def log_exceptions(transition: Transition[NodeType]) -> Transition[NodeType]:
    """Log the traceback of what a transition's callback raises; rclpy enters `on_error` and drops the exception."""

    @wraps(transition)
    def logged(node: NodeType, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            line = log_line("transition failed", event="transition_failed", callback=transition.__name__)
            node.get_logger().error(f"{line}\n{traceback.format_exc().rstrip()}")
            return TransitionCallbackReturn.ERROR

    return logged
