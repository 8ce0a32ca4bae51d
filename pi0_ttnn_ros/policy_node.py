"""The lifecycle node `pi0_policy`: camera images, joint states and an instruction in, joint trajectories out."""

from __future__ import annotations

import sys

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from pi0_ttnn_core.backends import BackendError
from pi0_ttnn_core.checkpoint import CheckpointError
from pi0_ttnn_core.robot import RobotError
from pi0_ttnn_core.tokenizer import TokenizerError
from pi0_ttnn_ros.configured_policy import LATCHED, ConfiguredPolicy
from pi0_ttnn_ros.conversions import time_message
from pi0_ttnn_ros.input_check import InputCheckError
from pi0_ttnn_ros.msg import PolicyStatus
from pi0_ttnn_ros.parameters import ParameterError, declare_parameters, read_parameters
from pi0_ttnn_ros.run_node import run_node
from pi0_ttnn_ros.status import diagnostics

SETUP_ERRORS = (ParameterError, RobotError, CheckpointError, TokenizerError, BackendError, InputCheckError)


class PolicyNode(LifecycleNode):
    """Parameters, lifecycle, status and diagnostics."""

    def __init__(self) -> None:
        super().__init__("pi0_policy")
        declare_parameters(self)
        self._setup_error = ""
        self._configured: ConfiguredPolicy | None = None
        self._state = "unconfigured"
        self.add_on_set_parameters_callback(self._refuse_while_configured)
        self._status_publisher = self.create_publisher(PolicyStatus, "~/status", LATCHED)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._status_timer = self.create_timer(1.0, self._publish_status)
        self._publish_status()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            parameters = read_parameters(self)
            self.get_logger().info(f"loading {parameters.checkpoint} on backend {parameters.backend}")
            self._configured = ConfiguredPolicy(self, parameters)
        except Exception as error:
            self._setup_error = str(error) if isinstance(error, SETUP_ERRORS) else f"{type(error).__name__}: {error}"
            self.get_logger().error(f"cannot configure: {self._setup_error}")
            self._publish_status()
            return TransitionCallbackReturn.FAILURE
        self._setup_error = ""
        return self._enter("inactive")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._configured is not None
        self._configured.start_acting()
        return self._enter("active")

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._configured is not None
        self._configured.stop_acting()
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
            self._configured.stop_acting()
            self._configured.close()
            self._configured = None

    def _enter(self, state: str) -> TransitionCallbackReturn:
        self._state = state
        self._publish_status()
        return TransitionCallbackReturn.SUCCESS

    def _refuse_while_configured(self, parameters: list[Parameter]) -> SetParametersResult:
        if self._configured is None or all(parameter.name == "use_sim_time" for parameter in parameters):
            return SetParametersResult(successful=True)
        names = [parameter.name for parameter in parameters]
        return SetParametersResult(
            successful=False, reason=f"{names} take effect at configure: deactivate and clean up the node first"
        )

    def _publish_status(self) -> None:
        now = self.get_clock().now().nanoseconds
        message = PolicyStatus(lifecycle_state=self._state, last_error=self._setup_error)
        message.header.stamp = time_message(now)
        reasons: dict[str, str] = {}
        if self._configured is not None:
            configured = self._configured
            reasons = configured.buffer.stale_inputs(now)
            message.last_error = configured.last_error
            message.backend = configured.policy.backend.name
            message.device = configured.policy.backend.device
            message.checkpoint = configured.parameters.checkpoint
            message.instruction = configured.buffer.instruction
            message.rate = configured.statistics.rate(now)
            p50, p95, maximum = configured.statistics.percentiles()
            message.latency_p50, message.latency_p95, message.latency_max = p50, p95, maximum
            message.stale_inputs = sorted(reasons)
        self._status_publisher.publish(message)
        self._diagnostics_publisher.publish(diagnostics(message, self.get_name(), reasons))


def main() -> None:
    """Run the node until SIGINT or SIGTERM; the last thing that it does is to let the robot hold."""
    try:
        run_node(PolicyNode, PolicyNode.release)
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        sys.exit(f"pi0_policy: {error}")


if __name__ == "__main__":
    main()
