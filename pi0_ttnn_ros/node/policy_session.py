"""What lives from configure to cleanup: the policy, its inputs, its worker and the loop that moves the robot."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_ros.controllers.factory import make_controllers
from pi0_ttnn_ros.execution.chunk_executor import ChunkExecutor, Execution
from pi0_ttnn_ros.execution.command_loop import CommandLoop
from pi0_ttnn_ros.execution.safety import SafetyError
from pi0_ttnn_ros.execution.tracking import TrackingMonitor
from pi0_ttnn_ros.inference.device_reset import ResetError
from pi0_ttnn_ros.inference.policy_process import PolicyProcess, PolicyUnavailable
from pi0_ttnn_ros.inference.requests import PolicyDescription, PolicyError, PolicyOptions
from pi0_ttnn_ros.inference.worker import InferenceWorker
from pi0_ttnn_ros.node.chunk_publisher import ChunkPublisher
from pi0_ttnn_ros.node.frozen_inputs import FrozenInputs
from pi0_ttnn_ros.node.input_check import check_inputs
from pi0_ttnn_ros.node.inputs import PolicyInputs
from pi0_ttnn_ros.node.restart import RestartGuard
from pi0_ttnn_ros.node.statistics import Statistics
from pi0_ttnn_ros.observation.buffer import Snapshot
from pi0_ttnn_ros.observation.decoding import observation_from_snapshot
from pi0_ttnn_ros.observation.images import ConversionError
from pi0_ttnn_ros.parameters.joint_limits import joint_limits, tracking_tolerances
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.rclpy_utils.clock import NodeClock
from pi0_ttnn_ros.rclpy_utils.logs import error_text, log_line, traceback_lines, without_numbers
from pi0_ttnn_ros.rclpy_utils.messages import time_message
from pi0_ttnn_ros.rclpy_utils.robot_description import robot_description
from pi0_ttnn_ros.visualization.publishers import Introspection

# Their messages are for the user; anything else that fails an inference is unforeseen and logged with its traceback.
INFERENCE_ERRORS = (ConversionError, PolicyError, PolicyUnavailable, ResetError, SafetyError)
SLOW_INFERENCE = 3.0  # times the 95th percentile, from which on the status names an inference under way
LOG_INTERVAL_S = 5.0  # between two logs of a failure that lasts
CLOSE_TIMEOUT_S = 2.0  # for an inference under way to end


class PolicySession:
    """Everything that lives from configure to cleanup. Inputs are received, but nothing moves before `start`.

    It is the worker's `Listener`: `wants_chunk`, `guidance_target`, `on_chunk`, `on_error`, `on_restart`.

    Attributes:
        parameters: the parameters as they are now.
        inputs: the policy's inputs.
        policy: description of the loaded policy.
        controllers: controllers of the joints.
        loop: the loop that commands them.
        worker: the thread that infers.
        restart: whether the motion may resume after a hold.
        statistics: rate and latency of the inferences.
        restarts: number of restarts of the policy process.
        last_error: why the last inference failed; empty once one succeeded.
    """

    def __init__(
        self, node: Node, parameters: Parameters, policy_command: Sequence[str], while_waiting: Callable[[], None]
    ) -> None:
        """Check every input and load the policy; on an error all that was opened is closed again.

        Args:
            node: node to create publishers and subscriptions on.
            parameters: the node's parameters.
            policy_command: command that runs the policy, see `PolicyProcess`.
            while_waiting: called about ten times a second; what it raises ends the set-up.
        """
        self.parameters = parameters
        self.statistics = Statistics()
        self.restarts = 0
        self.last_error = ""
        self._node = node
        self._logged_faults: set[str] = set()
        self.restart = RestartGuard(parameters.restart == "manual")
        check_inputs(node, parameters, while_waiting)
        description = partial(robot_description, node, timeout=parameters.input_wait, while_waiting=while_waiting)
        limits = joint_limits(parameters, description)
        self._limits = limits
        self._tracking = TrackingMonitor(limits, parameters.grippers)
        self._frozen = FrozenInputs()
        with ExitStack() as stack:
            self._clock = NodeClock(node)
            stack.callback(self._clock.close)
            self._now_ns = self._clock.now_ns
            self.controllers = make_controllers(
                node,
                parameters.controllers,
                parameters.joint_names,
                parameters.stamp_trajectories,
                parameters.gripper_max_effort,
            )
            for controller in self.controllers:
                stack.callback(controller.close)
            process = PolicyProcess(_policy_options(parameters), policy_command)
            stack.callback(process.close, CLOSE_TIMEOUT_S)
            self.policy = _opened(process, parameters, while_waiting)
            self._chunk_publisher = ChunkPublisher(node, parameters, self.policy.backend)
            stack.callback(self._chunk_publisher.close)
            self._introspection: Introspection | None = None
            if parameters.introspection:
                self._introspection = Introspection(node, parameters.joint_names, parameters.marker_links)
                stack.callback(self._introspection.close)
            self.inputs = PolicyInputs(node, parameters, self._now_ns)
            stack.callback(self.inputs.close)
            self.inputs.subscribe()
            self.loop = CommandLoop(
                ChunkExecutor(limits, _execution(parameters)),
                [*self.controllers, self._tracking],
                self._now_ns,
                1.0 / parameters.command_rate,
                self._may_move,
                self.inputs.measured,
                self.on_error,
            )
            stack.callback(self.loop.close)
            self.worker = InferenceWorker(
                process,
                self.inputs.buffer,
                parameters.joint_names,
                self._now_ns,
                parameters.load_timeout,
                listener=self,
                reset_command=parameters.device_reset_command,
            )
            stack.callback(self.worker.close, CLOSE_TIMEOUT_S)
            stack.callback(self.stop)
            self._apply_live_parameters()
            self._stack = stack.pop_all()

    @property
    def controller_error(self) -> str:
        """Why a controller does not follow its commands; empty if all do."""
        return next(iter(self._controller_errors()), "")

    def hold_reasons(self) -> list[str]:
        """Return why the robot may not move, each with its subject; empty if it may."""
        stale = self.inputs.buffer.stale_inputs(self._now_ns())
        reasons = [f"held until ~/reset: {self.restart.reason}"] if self.restart.reason else []
        return reasons + [f"{name}: {reason}" for name, reason in sorted(stale.items())] + self._faults()

    def input_states(self) -> dict[str, str]:
        """Return for each input, by its name, why it cannot be used now; "" if it can."""
        return self.inputs.buffer.states(self._now_ns()) | self._frozen.reasons

    def reason(self) -> str:
        """Return why the started session moves the robot or holds it."""
        holding = "; ".join(self.hold_reasons())
        if self.loop.moving:
            return f"coming to rest: {holding}" if holding else "a chunk is executed"
        return holding or self._slow_inference() or self.last_error or "no chunk to execute yet"

    def _slow_inference(self) -> str:
        """Return for how long an inference has been running that takes unusually long."""
        _, p95, _ = self.statistics.percentiles()
        usual = min(SLOW_INFERENCE * p95 or math.inf, self.parameters.max_chunk_age)
        duration = self.worker.inferring_for
        return f"inference has been running for {duration:.1f} s" if duration > usual else ""

    def close(self) -> None:
        """Bring the robot to rest, then close everything in the reverse order of its opening."""
        self._stack.close()

    def start(self) -> None:
        """Start to infer and to command the robot."""
        self.inputs.reset_log()
        self.restart.start()
        self._tracking.reset()
        self._frozen.reset()
        self.loop.open(self.parameters.dry_run)
        self.worker.resume()

    def stop(self) -> None:
        """Stop inference and bring the robot to rest, without waiting for it."""
        self.loop.stop()
        self.worker.pause()

    def come_to_rest(self) -> None:
        """Return once the stopped session has brought the robot to rest."""
        self.loop.shut()

    def reset(self) -> None:
        """Let the motion resume after a hold that waits for it."""
        self.restart.reset()
        self._frozen.reset()

    def change(self, values: Mapping[str, Any]) -> None:
        """Change live parameters, by name."""
        self.parameters = replace(self.parameters, **values)
        self._apply_live_parameters()

    def wants_chunk(self) -> bool:
        """Return whether the robot needs a chunk now."""
        return self.loop.wants_chunk()

    def guidance_target(self, stamp_ns: int, state: np.ndarray) -> GuidanceTarget | None:
        """Return what to guide a chunk from an observation towards; None without real-time chunking."""
        return self.loop.guidance_target(stamp_ns, state) if self.parameters.strategy == "rtc" else None

    def on_chunk(self, chunk: ActionChunk, snapshot: Snapshot, latency: float) -> None:
        """Execute and publish a chunk."""
        self.loop.add(chunk, self.inputs.positions())
        self._chunk_publisher.publish(chunk, snapshot.images)
        self.statistics.add(self._now_ns(), latency)
        line = log_line("chunk", event="chunk", latency=latency, inference_time=chunk.inference_time)
        self._node.get_logger().debug(line, throttle_duration_sec=1.0)
        self.last_error = ""
        if self._introspection is not None:
            self._visualize(self._introspection, chunk, snapshot, latency)

    def on_error(self, error: Exception) -> None:
        """Hold, and keep the error for the status."""
        self.loop.hold()
        self.last_error = error_text(error, INFERENCE_ERRORS)
        self.restart.hold(self.last_error)
        line = log_line("inference failed, holding", event="inference_failed", reason=self.last_error)
        line += traceback_lines(error, INFERENCE_ERRORS)
        self._node.get_logger().error(line, throttle_duration_sec=LOG_INTERVAL_S)

    def on_restart(self) -> None:
        """Count a restart of the policy process."""
        self.restarts += 1
        self.restart.hold("the policy process was restarted")
        self._node.get_logger().warning(log_line("policy process restarted", event="restarted", times=self.restarts))

    def _visualize(self, introspection: Introspection, chunk: ActionChunk, snapshot: Snapshot, latency: float) -> None:
        introspection.publish_trajectory(chunk)
        if introspection.wants_image:
            activity = "moving" if self.loop.moving else "holding"
            dry = ", dry run" if self.parameters.dry_run else ""
            number = self._chunk_publisher.sequence - 1
            lines = [chunk.instruction, f"{activity}{dry}, latency {latency * 1e3:.0f} ms, chunk {number}"]
            observation = observation_from_snapshot(snapshot, self.parameters.joint_names)
            introspection.publish_image(time_message(chunk.stamp_ns), observation.images, lines)

    def _apply_live_parameters(self) -> None:
        parameters = self.parameters
        self.worker.max_rate = parameters.inference_rate
        self.worker.inference_timeout = parameters.inference_timeout
        self.inputs.buffer.set_timeouts(parameters.input_timeouts, parameters.sync_tolerance)
        self._tracking.tolerance = tracking_tolerances(parameters, self._limits)
        self.loop.set_speed_scaling(parameters.speed_scaling)

    def _faults(self) -> list[str]:
        """Return why the robot may not move, apart from its inputs and `restart`."""
        stopped_for = self._clock.stopped_for
        clock = f"/clock has stopped for {stopped_for:.1f} s" if stopped_for else ""
        found = [clock, self.inputs.conflict(), self._tracking.reason, *self._frozen.reasons.values()]
        if self.loop.failure:
            found.append(f"commanding fails: {self.loop.failure}")
        return [*filter(None, found), *self._controller_errors()]

    def _controller_errors(self) -> list[str]:
        """Return why controllers do not follow their commands; a dry run needs none."""
        if self.parameters.dry_run:
            return []
        return [controller.error for controller in self.controllers if controller.error]

    def _may_move(self) -> bool:
        """Return whether nothing makes the robot hold; log what changed."""
        stale = self.inputs.stale()
        now_ns = self._now_ns()
        measured = self.inputs.measured()
        if measured is not None:
            self._tracking.observe(*measured, now_ns)
        self._frozen.observe(
            self.inputs.buffer.same_since(), self._tracking, self.parameters.repeated_input_timeout, now_ns
        )
        faults = self._faults()
        self._log_new(faults)
        self.restart.observe(stale, faults, time.monotonic())
        return not (stale or faults or self.restart.reason)

    def _log_new(self, faults: Sequence[str]) -> None:
        known, self._logged_faults = self._logged_faults, {without_numbers(fault) for fault in faults}
        for fault in faults:
            if without_numbers(fault) not in known:
                self._node.get_logger().error(log_line("holding", event="fault", reason=fault))


def _opened(process: PolicyProcess, parameters: Parameters, while_waiting: Callable[[], None]) -> PolicyDescription:
    """Load the policy; where that fails on a device, say what looks for the cause."""
    try:
        return process.open(parameters.load_timeout, while_waiting)
    except (PolicyError, PolicyUnavailable) as error:
        if parameters.backend != "ttnn":
            raise
        raise type(error)(f"{error}; run `pi0-ttnn doctor`, which checks computer and card") from error


def _execution(parameters: Parameters) -> Execution:
    return Execution(
        strategy=parameters.strategy,
        time_step=parameters.time_step,
        period=1.0 / parameters.command_rate,
        max_chunk_age=parameters.max_chunk_age,
        max_jump_time=parameters.max_jump_time,
        limit_policy=parameters.limit_policy,
        execution_horizon=parameters.execution_horizon,
        ensemble_coefficient=parameters.temporal_ensemble_coeff,
        stepped_joints=tuple(
            parameters.joint_names.index(joint)
            for controller in parameters.controllers.values()
            if controller.type == "position"
            for joint in controller.joints
        ),
    )


def _policy_options(parameters: Parameters) -> PolicyOptions:
    return PolicyOptions(
        folder=parameters.checkpoint,
        backend=parameters.backend,
        robot=parameters.by_full_name(),
        dtype=parameters.dtype,
        precision=parameters.precision,
        num_steps=parameters.num_steps or None,
        seed=parameters.seed,
        with_guidance=parameters.strategy == "rtc",
        device_id=parameters.device_id,
    )
