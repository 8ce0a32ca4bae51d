"""The lifecycle node `pi0_policy`: camera images, joint states and an instruction in, joint trajectories out.

    ros2 run pi0_ttnn_ros policy_node --ros-args --params-file robot.yaml -p checkpoint:=/path/to/checkpoint
    ros2 lifecycle set /pi0_policy configure    # loads the policy and checks every input
    ros2 lifecycle set /pi0_policy activate
    ros2 service call /pi0_policy/enable std_srvs/srv/SetBool "data: true"    # from here on it moves the robot
    ros2 topic pub --once /pi0_policy/instruction std_msgs/msg/String "data: 'pick up the cup'"
    ros2 topic echo /pi0_policy/status
    ros2 service call /pi0_policy/stop std_srvs/srv/Trigger    # holds until ~/reset is called
    ros2 service call /pi0_policy/reset std_srvs/srv/Trigger

Nav2's lifecycle_manager can manage it with `bond_timeout: 0.0`, since the node does not form a bond.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from pi0_ttnn_core.processing.robot import RobotError
from pi0_ttnn_ros.controllers.base import ControllerError
from pi0_ttnn_ros.inference.policy_process import COMMAND, PolicyUnavailable
from pi0_ttnn_ros.inference.requests import PolicyError
from pi0_ttnn_ros.msg import PolicyStatus
from pi0_ttnn_ros.node.input_check import InputCheckError
from pi0_ttnn_ros.node.policy_session import PolicySession
from pi0_ttnn_ros.node.status import ACTIVITIES, changed, diagnostics, policy_status
from pi0_ttnn_ros.node.stop import StopState
from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.parameters import LIVE
from pi0_ttnn_ros.parameters.topics import EMERGENCY_STOP_TOPIC, STATUS_TOPIC
from pi0_ttnn_ros.rclpy_utils.lifecycle import ManagedNode, TransitionAborted, log_exceptions
from pi0_ttnn_ros.rclpy_utils.logs import error_text, log_line, traceback_lines
from pi0_ttnn_ros.rclpy_utils.messages import time_message
from pi0_ttnn_ros.rclpy_utils.parameters import NodeParameters
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED, REQUESTS
from pi0_ttnn_ros.rclpy_utils.run_node import run_node
from pi0_ttnn_ros.rclpy_utils.side_node import SideNode
from pi0_ttnn_ros.rclpy_utils.subscribe import LatchedOrNot
from pi0_ttnn_ros.system.device_sensors import card_readings
from pi0_ttnn_ros.system.output_relay import relay_output
from pi0_ttnn_ros.system.scheduling import Priority, has_realtime_priority, use_realtime_priority

# Their messages are for the user; anything else that fails configure is unforeseen and logged with its traceback.
SETUP_ERRORS = (
    ParameterError,
    RobotError,
    PolicyError,
    PolicyUnavailable,
    InputCheckError,
    ControllerError,
    TransitionAborted,
)

STEADY = Clock(clock_type=ClockType.STEADY_TIME)  # a simulated time may stand still
STATUS_PERIOD_S = 1.0
STATUS_CHECK_S = 0.1  # between two checks whether the activity or its reason changed


class PolicyNode(ManagedNode):
    """Parameters, lifecycle, services, status and diagnostics.

    The robot moves only while the node is active, enabled and not stopped. Services have a thread of their own, so that
    ~/stop is answered whatever the node is doing. Their callbacks set a flag, call `_update_running` and wait for
    nothing; the executor's thread publishes the status.
    """

    def __init__(self, stopping: threading.Event, policy_command: Sequence[str] = COMMAND) -> None:
        """Create the unconfigured node.

        Args:
            stopping: set when the process has to end.
            policy_command: runs the policy, see `PolicyProcess`.
        """
        super().__init__("pi0_policy", stopping, allow_undeclared_parameters=True)
        self._declared = NodeParameters(self)
        self._policy_command = policy_command
        self._setup_error = ""
        self._session: PolicySession | None = None
        self._state = "unconfigured"
        self._enabled = True
        self._stop = StopState()
        self._keep_stop()
        self._answered = ""
        self._changing = False
        self._running = False
        self._update_lock = threading.Lock()
        self._status, self._published = PolicyStatus(), 0.0
        self.add_on_set_parameters_callback(self._on_parameters)
        self._status_publisher = self.create_publisher(PolicyStatus, STATUS_TOPIC, LATCHED)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._services_node = SideNode(self, "services")
        self._add_service(SetBool, "~/enable", self._on_enable)
        self._add_service(Trigger, "~/stop", self._on_stop)
        self._add_service(Trigger, "~/reset", self._on_reset)
        self._add_emergency_stop()
        self._status_timer = self.create_timer(STATUS_PERIOD_S, self._on_timer, clock=STEADY)
        self._status_check_timer = self.create_timer(STATUS_CHECK_S, self._on_status_check, clock=STEADY)
        self._publish_status()
        self._services_node.start()

    @log_exceptions
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check every input and load the policy."""
        self._keep_stop()
        self._state, self._setup_error = "configuring", ""
        self._publish_status()
        try:
            parameters = self._declared.read()
            self.get_logger().info(
                log_line("loading the policy", checkpoint=parameters.checkpoint, backend=parameters.backend)
            )
            self._session = PolicySession(self, parameters, self._policy_command, self._while_configuring)
        except Exception as error:
            self._setup_error = error_text(error, SETUP_ERRORS)
            # The lines of a YAML to write instead are for people.
            line = log_line("cannot configure", reason=self._setup_error).replace("\\n", "\n")
            self.get_logger().error(line + traceback_lines(error, SETUP_ERRORS))
            self._state = "unconfigured"
            self._publish_status()
            return TransitionCallbackReturn.FAILURE
        # What exists now stays: a garbage collection that goes through it stops every thread for 20 ms.
        gc.freeze()
        if not has_realtime_priority():
            self.get_logger().info(
                "real-time priority not permitted: commands may be late under load; see docs/how-to/real_time.md"
            )
        return self._enter("inactive")

    @log_exceptions
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to move the robot, unless disabled or stopped."""
        self._enabled = self._enabled and self._start_enabled
        return self._enter("active")

    @log_exceptions
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Bring the robot to rest."""
        return self._enter("inactive")

    @log_exceptions
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Bring the robot to rest and free the policy."""
        self.release()
        return self._enter("unconfigured")

    @log_exceptions
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Bring the robot to rest and free the policy for good."""
        self.release()
        return self._enter("finalized")

    @log_exceptions
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the policy after a transition failed."""
        self.release()
        return self._enter("unconfigured")

    def release(self) -> None:
        """Bring the robot to rest and free the policy, in whatever state the node is."""
        with self._update_lock:
            session, self._session, self._running = self._session, None, False
        if session is not None:
            try:
                session.close()
            finally:
                gc.unfreeze()  # so that the session's reference cycles are collected, too
                gc.collect()

    def destroy_node(self) -> None:
        """End the services' thread and destroy the node."""
        self._services_node.close()
        super().destroy_node()

    def _while_configuring(self) -> None:
        """Publish the status and answer the lifecycle services while the executor's thread configures the node.

        Raises:
            TransitionAborted: see `check_aborted`.
        """
        self.check_aborted()
        if time.monotonic() - self._published >= STATUS_PERIOD_S:
            self._publish_status()
        else:
            self._on_status_check()

    def _add_service(self, service_type: type, name: str, callback: Callable[..., Any]) -> None:
        full_name = self.resolve_service_name(name)
        self._services_node.node.create_service(service_type, full_name, callback, qos_profile=REQUESTS)

    def _add_emergency_stop(self) -> None:
        node, topic = self._services_node.node, self.resolve_topic_name(EMERGENCY_STOP_TOPIC)
        emergency_stops = LatchedOrNot(node, Bool, topic, self._on_emergency_stop, depth=10)
        node.create_timer(STATUS_CHECK_S, emergency_stops.update, clock=STEADY)

    def _enter(self, state: str) -> TransitionCallbackReturn:
        self._state = state
        self._update_running()
        if self._session is not None and state != "active":
            self._session.come_to_rest()
        self.get_logger().info(log_line("state changed", state=state, activity=ACTIVITIES[self._activity()[0]]))
        self._publish_status()
        return TransitionCallbackReturn.SUCCESS

    def _update_running(self) -> None:
        """Start or stop the session, depending on the lifecycle state and the services. Waits for nothing."""
        with self._update_lock:
            running = self._state == "active" and self._enabled and not (self._stop.reason or self._changing)
            if self._session is not None and running != self._running:
                if running:
                    self._session.start()
                else:
                    self._session.stop()
                self._running = running

    @property
    def _start_enabled(self) -> bool:
        return self.get_parameter("start_enabled").value

    def _keep_stop(self) -> None:
        """Restore a stop from before the node started, and keep later ones, where `state_folder` is given."""
        folder = self.get_parameter("state_folder").value
        name = self.get_fully_qualified_name().strip("/").replace("/", ".")
        self._stop.keep_in(Path(folder).expanduser() / f"{name}.stop" if folder else None)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data and self._state != "active" and not self._start_enabled:
            return self._answer(response, "not enabled: activate the node first", success=False)
        self._enabled = request.data
        return self._answer(response, "enabled" if request.data else "disabled, holding")

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._stop.stop("stopped by ~/stop"):
            self._update_running()
            self._stop.keep()
        return self._answer(response, self._stop.reason)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refusal = self._stop.reset()
        if refusal:
            return self._answer(response, f"not reset: {refusal}", success=False)
        session = self._session
        if session is not None:
            session.reset()
        return self._answer(response, "reset")

    def _on_emergency_stop(self, message: Bool) -> None:
        if self._stop.on_emergency_stop(message.data):
            self._update_running()
            self._stop.keep()
            self._log_answer(self._stop.reason)

    def _answer(self, response: SetBool.Response, text: str, success: bool = True) -> SetBool.Response:
        self._update_running()
        self._log_answer(text)
        response.success, response.message = success, text
        return response

    def _log_answer(self, text: str) -> None:
        """Log what a service or the emergency stop did, unless it repeats the last one."""
        if text != self._answered:
            self.get_logger().info(log_line(text, state=self._state, activity=ACTIVITIES[self._activity()[0]]))
        self._answered = text

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        values = {parameter.name: parameter.value for parameter in parameters}
        if self._session is None or not all(map(self.has_parameter, values)):
            return SetParametersResult(successful=True)  # NodeParameters refuses what is not declared
        fixed = sorted(values.keys() - LIVE)
        if fixed:
            return SetParametersResult(
                successful=False, reason=f"{fixed} take effect at configure: deactivate and clean up the node first"
            )
        if "dry_run" in values:
            self._changing = True
            self._update_running()
            self._session.come_to_rest()
        try:
            self._session.change(values)
        finally:
            self._changing = False
            self._update_running()
        return SetParametersResult(successful=True)

    def _activity(self) -> tuple[int, str]:
        """Return what the node is doing, one of the constants of PolicyStatus, and why."""
        session = self._session
        motion = "" if session is None or session.loop.at_rest else "coming to rest: "
        if self._stop.reason:
            return PolicyStatus.STOPPED, f"{motion}{self._stop.reason}"
        if not self._enabled:
            return PolicyStatus.DISABLED, f"{motion}disabled, until ~/enable"
        if session is None or not self._running:
            return PolicyStatus.IDLE, self._setup_error or f"the node is {self._state}"
        reason = session.reason()
        if session.loop.moving:
            return PolicyStatus.MOVING, reason
        return PolicyStatus.NEEDS_RESET if session.restart.reason else PolicyStatus.HOLDING, reason

    def _on_timer(self) -> None:
        if self._session is not None:
            self._session.inputs.subscribe_latched()
        self._publish_status()

    def _on_status_check(self) -> None:
        """Publish the status if the activity or its reason changed."""
        activity, reason = self._activity()
        if changed(self._status, PolicyStatus(activity=activity, reason=reason)):
            self._publish_status()

    def _publish_status(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        session = self._session
        if session is None:
            status, input_states = PolicyStatus(last_error=self._setup_error, speed_scaling=1.0), {}
            hold_reasons: list[str] = []
            status.header.stamp = time_message(now_ns)
        else:
            status, input_states = policy_status(session, now_ns), session.input_states()
            hold_reasons = session.hold_reasons()
        status.lifecycle_state = self._state
        status.activity, status.reason = self._activity()
        self._status, self._published = status, time.monotonic()
        self._status_publisher.publish(status)
        self._diagnostics_publisher.publish(
            diagnostics(status, self.get_name(), input_states, hold_reasons, card_readings())
        )


def main(policy_command: Sequence[str] = COMMAND) -> None:
    """Run the node until SIGINT or SIGTERM, then bring the robot to rest and exit."""
    relay_output()
    use_realtime_priority(Priority.NODE)
    sys.setswitchinterval(0.001)  # s, after which a computing thread gives way to the one that commands
    try:
        run_node(partial(PolicyNode, policy_command=policy_command), PolicyNode.release)
    except (ParameterError, InvalidParameterTypeException, InvalidParameterValueException) as error:
        sys.exit(f"pi0_policy: {error}")


if __name__ == "__main__":
    main()
