"""The lifecycle node `pi0_policy`: camera images, joint states and an instruction in, joint trajectories out."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from pi0_ttnn_core.processing.robot import RobotError
from pi0_ttnn_ros.controllers.base import ControllerError
from pi0_ttnn_ros.inference.policy_process import COMMAND, PolicyError, PolicyUnavailable
from pi0_ttnn_ros.msg import PolicyStatus
from pi0_ttnn_ros.node.device_sensors import card_readings
from pi0_ttnn_ros.node.input_check import InputCheckError
from pi0_ttnn_ros.node.logs import log_line
from pi0_ttnn_ros.node.policy_session import PolicySession
from pi0_ttnn_ros.node.status import ACTIVITIES, diagnostics
from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.parameters import LIVE
from pi0_ttnn_ros.parameters.topics import STATUS_TOPIC
from pi0_ttnn_ros.rclpy_utils.messages import time_message
from pi0_ttnn_ros.rclpy_utils.parameters import NodeParameters
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from pi0_ttnn_ros.rclpy_utils.run_node import run_node
from pi0_ttnn_ros.system.scheduling import Priority, has_realtime_priority, use_realtime_priority

SETUP_ERRORS = (ParameterError, RobotError, PolicyError, PolicyUnavailable, InputCheckError, ControllerError)
INSTRUCTION_LENGTH = 200  # characters of it in the status


class PolicyNode(LifecycleNode):
    """Parameters, lifecycle, services, status and diagnostics.

    The robot moves only while the node is active, enabled and not stopped.
    """

    def __init__(self, policy_command: Sequence[str] = COMMAND) -> None:
        """Take the command that runs the policy, see `PolicyProcess`."""
        super().__init__("pi0_policy", allow_undeclared_parameters=True)
        self._declared = NodeParameters(self)
        self._policy_command = policy_command
        self._setup_error = ""
        self._configured: PolicySession | None = None
        self._state = "unconfigured"
        self._enabled = True
        self._stopped = False
        self._running = False
        self.add_on_set_parameters_callback(self._on_parameters)
        self._status_publisher = self.create_publisher(PolicyStatus, STATUS_TOPIC, LATCHED)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._status_timer = self.create_timer(1.0, self._on_timer)
        self._publish_status()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            parameters = self._declared.read()
            self.get_logger().info(
                log_line("loading the policy", checkpoint=parameters.checkpoint, backend=parameters.backend)
            )
            self._configured = PolicySession(self, parameters, self._policy_command)
            # What is there now stays: going through it for garbage would stop every thread for 20 ms.
            gc.freeze()
        except Exception as error:
            self._setup_error = str(error) if isinstance(error, SETUP_ERRORS) else f"{type(error).__name__}: {error}"
            # The lines of a YAML to write instead are for people.
            self.get_logger().error(log_line("cannot configure", reason=self._setup_error).replace("\\n", "\n"))
            self._publish_status()
            return TransitionCallbackReturn.FAILURE
        self._setup_error = ""
        if not has_realtime_priority():
            self.get_logger().info("no permission for a real-time priority: on a busy machine commands may come late")
        return self._enter("inactive")

    def _LifecycleNodeMixin__on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """Refuse a transition that the state does not allow: rclpy's own callback raises, and the node would end."""
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)  # type: ignore[misc]
        except RCLError as error:
            self.get_logger().warning(log_line("transition refused", state=self._state, reason=error))
            response.success = False
            return response

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._enter("active")

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._enter("inactive")

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return self._enter("unconfigured")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return self._enter("finalized")

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return self._enter("unconfigured")

    def release(self) -> None:
        """Stop acting, let the robot hold and free the policy, in whatever state the node is."""
        if self._configured is not None:
            self._configured.close()
            self._configured = None
            self._running = False
            gc.unfreeze()  # it goes now, with the cycles in it
            gc.collect()

    def _enter(self, state: str) -> TransitionCallbackReturn:
        self._state = state
        self._update_running()
        self.get_logger().info(log_line("state changed", state=state, activity=ACTIVITIES[self._activity]))
        self._publish_status()
        return TransitionCallbackReturn.SUCCESS

    def _update_running(self) -> None:
        """Start or stop acting, as state and services say."""
        acting = self._state == "active" and self._enabled and not self._stopped
        if self._configured is not None and acting != self._running:
            if acting:
                self._configured.start()
            else:
                self._configured.stop()
            self._running = acting

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        return self._answer(response, "enabled" if request.data else "disabled, the robot holds")

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stopped = True
        return self._answer(response, "stopped, the robot holds until ~/reset is called")

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stopped = False
        return self._answer(response, "not stopped any more")

    def _answer(self, response: SetBool.Response, text: str) -> SetBool.Response:
        self._update_running()
        self.get_logger().info(log_line(text, state=self._state, activity=ACTIVITIES[self._activity]))
        self._publish_status()
        response.success, response.message = True, text
        return response

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        values = {parameter.name: parameter.value for parameter in parameters}
        if self._configured is None or not all(map(self.has_parameter, values)):
            return SetParametersResult(successful=True)  # NodeParameters refuses what is not declared
        fixed = sorted(values.keys() - LIVE)
        if fixed:
            return SetParametersResult(
                successful=False, reason=f"{fixed} take effect at configure: deactivate and clean up the node first"
            )
        if self._running and "dry_run" in values:
            self._configured.stop()
        self._configured.change(values)
        if self._running and "dry_run" in values:
            self._configured.start()
        return SetParametersResult(successful=True)

    @property
    def _activity(self) -> int:
        if self._stopped:
            return PolicyStatus.STOPPED
        if not self._enabled:
            return PolicyStatus.DISABLED
        if self._configured is None or not self._running:
            return PolicyStatus.IDLE
        return PolicyStatus.MOVING if self._configured.loop.moving else PolicyStatus.HOLDING

    def _on_timer(self) -> None:
        if self._configured is not None:
            self._configured.subscribe_latched()
        self._publish_status()

    def _publish_status(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        message = PolicyStatus(
            lifecycle_state=self._state, activity=self._activity, last_error=self._setup_error, speed_scaling=1.0
        )
        message.header.stamp = time_message(now_ns)
        inputs: dict[str, str] = {}
        if self._configured is not None:
            configured = self._configured
            parameters = configured.parameters
            inputs = configured.buffer.states(now_ns)
            message.last_error = configured.last_error or configured.controller_error
            message.dry_run = parameters.dry_run
            message.strategy = parameters.strategy
            message.speed_scaling = parameters.speed_scaling
            message.backend = configured.policy.backend
            message.device = configured.policy.device
            message.restarts = configured.restarts
            message.checkpoint = parameters.checkpoint
            message.instruction = configured.buffer.instruction[:INSTRUCTION_LENGTH]
            message.inference_rate = configured.statistics.rate(now_ns)
            p50, p95, maximum = configured.statistics.percentiles()
            message.latency_p50, message.latency_p95, message.latency_max = p50, p95, maximum
            message.sync_skew = configured.buffer.sync_skew()
            message.stale_inputs = sorted(name for name, reason in inputs.items() if reason)
        self._status_publisher.publish(message)
        self._diagnostics_publisher.publish(diagnostics(message, self.get_name(), inputs, card_readings()))


def main(policy_command: Sequence[str] = COMMAND) -> None:
    """Run the node until SIGINT or SIGTERM; the last thing that it does is to let the robot hold."""
    use_realtime_priority(Priority.NODE)
    # A thread that computes gives way to the one that commands after so many seconds.
    sys.setswitchinterval(0.001)
    try:
        run_node(partial(PolicyNode, policy_command), PolicyNode.release)
    except (ParameterError, InvalidParameterTypeException, InvalidParameterValueException) as error:
        sys.exit(f"pi0_policy: {error}")


if __name__ == "__main__":
    main()
