"""A lifecycle node that survives invalid transitions, can abort long ones, and logs what its transitions raise."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from lifecycle_msgs.msg import Transition as TransitionMessage
from lifecycle_msgs.srv import ChangeState
from rclpy._rclpy_pybind11 import RCLError
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from pi0_ttnn_ros.rclpy_utils.logs import log_line

NodeType = TypeVar("NodeType", bound=LifecycleNode)
Transition = Callable[[NodeType, LifecycleState], TransitionCallbackReturn]


SHUTDOWN = (
    TransitionMessage.TRANSITION_UNCONFIGURED_SHUTDOWN,
    TransitionMessage.TRANSITION_INACTIVE_SHUTDOWN,
    TransitionMessage.TRANSITION_ACTIVE_SHUTDOWN,
)
CLEANUP = TransitionMessage.TRANSITION_CLEANUP


class TransitionAborted(RuntimeError):
    """A transition was aborted, because the node has to be cleaned up or to end."""


class ManagedNode(LifecycleNode):
    """A lifecycle node that answers a transition its state does not allow with failure.

    In rclpy up to Jazzy the service's callback raises RCLError, which ends the node
    (https://github.com/ros2/rclpy/issues/1209). The callback is private, so the override needs its mangled name.
    """

    def __init__(self, name: str, stopping: threading.Event, **options: Any) -> None:
        """Create the node; `stopping` is set when the process has to end, `options` are those of `LifecycleNode`."""
        super().__init__(name, **options)
        self._stopping = stopping
        self._deferred: list[tuple[int, Any]] = []

    def check_aborted(self) -> None:
        """Answer the lifecycle services, for a transition that waits and has to call this about ten times a second.

        The node receives nothing during a transition.

        Raises:
            TransitionAborted: a cleanup or a shutdown was requested, which follows the transition, or the process has
                to end.
        """
        if self._stopping.is_set():
            raise TransitionAborted("aborted: the node was asked to end")
        waiting: list[Any] = [self._service_get_state, self._service_get_available_transitions]
        for service in [*waiting, self._service_change_state]:
            with service.handle:
                request, header = service.handle.service_take_request(service.srv_type.Request)
            if header is None:
                continue
            if service is not self._service_change_state:
                service.send_response(service.callback(request, service.srv_type.Response()), header)
            elif request.transition.id in (CLEANUP, *SHUTDOWN):
                self._deferred.append((request.transition.id, header))
            else:
                service.send_response(ChangeState.Response(success=False), header)
        if self._deferred:
            raise TransitionAborted("aborted: a cleanup or a shutdown was requested")

    def _LifecycleNodeMixin__on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            response = super()._LifecycleNodeMixin__on_change_state(request, response)  # type: ignore[misc]
        except RCLError as error:
            line = log_line("transition refused", state=self._state_machine.current_state[1], reason=error)
            self.get_logger().warning(line)
            response.success = False
        deferred, self._deferred = self._deferred, []
        for transition, header in deferred:
            self._service_change_state.send_response(ChangeState.Response(success=self._end(transition)), header)
        return response

    def _end(self, transition: int) -> bool:
        """Clean up or shut down, whatever the state is; return whether the node is in the wanted state then."""
        with contextlib.suppress(RCLError):  # it may be there already
            self.trigger_cleanup() if transition == CLEANUP else self.trigger_shutdown()
        return self._state_machine.current_state[1] == ("unconfigured" if transition == CLEANUP else "finalized")


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
