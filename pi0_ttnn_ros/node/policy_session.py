"""What lives from configure to cleanup: a policy, its inputs, its worker and the loop that moves the robot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription, SubscriptionEventCallbacks
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, String

from pi0_ttnn_core.policy_io import ActionChunk as PolicyChunk
from pi0_ttnn_core.policy_io import Observation
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_ros.controllers.factory import make_controllers
from pi0_ttnn_ros.execution.chunk_executor import ChunkExecutor, Execution
from pi0_ttnn_ros.execution.command_loop import CommandLoop
from pi0_ttnn_ros.execution.safety import SafetyError
from pi0_ttnn_ros.inference.policy_process import PolicyError, PolicyOptions, PolicyProcess, PolicyUnavailable
from pi0_ttnn_ros.inference.worker import InferenceWorker
from pi0_ttnn_ros.msg import ActionChunk
from pi0_ttnn_ros.node.input_check import check_inputs
from pi0_ttnn_ros.node.logs import log_line
from pi0_ttnn_ros.node.status import Statistics
from pi0_ttnn_ros.observation.buffer import HEARTBEAT, INSTRUCTION, JOINT_STATES, ObservationBuffer, Snapshot
from pi0_ttnn_ros.observation.decoding import ConversionError, observation_from_snapshot, positions_from_message
from pi0_ttnn_ros.observation.stamps import nanoseconds, serialized_stamp
from pi0_ttnn_ros.parameters.joint_limits import joint_limits
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import CHUNK_TOPIC, HEARTBEAT_TOPIC, INSTRUCTION_TOPIC
from pi0_ttnn_ros.rclpy_utils.clock import NodeClock
from pi0_ttnn_ros.rclpy_utils.messages import image_type, time_message
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED, NEWEST
from pi0_ttnn_ros.rclpy_utils.robot_description import robot_description
from pi0_ttnn_ros.visualization.publishers import Introspection

# What has a text for the user; anything else that goes wrong in an inference is a fault of ours, logged with its type.
INFERENCE_ERRORS = (ConversionError, PolicyError, PolicyUnavailable, SafetyError)

LOG_INTERVAL = 5.0  # seconds between two logs of the same lasting trouble
CLOSE_TIMEOUT = 2.0  # seconds that an inference under way may take to end


class PolicySession:
    """All that lives from configure to cleanup: the policy, its inputs, its worker and the loop that moves."""

    def __init__(self, node: Node, parameters: Parameters, policy_command: Sequence[str]) -> None:
        """Load the policy with `policy_command` (see `PolicyProcess`) and check every input."""
        self.node = node
        self.parameters = parameters
        self.statistics = Statistics()
        self.sequence = 0
        self.restarts = 0
        self.last_error = ""
        self._stale: set[str] = set()
        self._failing = ""
        limits = joint_limits(parameters, partial(robot_description, node, timeout=parameters.input_wait))
        check_inputs(node, parameters)
        self.controllers = make_controllers(
            node,
            parameters.controllers,
            parameters.joint_names,
            parameters.stamp_trajectories,
            parameters.gripper_max_effort,
        )
        self._policy = PolicyProcess(_policy_options(parameters), policy_command)
        try:
            self.policy = self._policy.open(parameters.load_timeout)
        except (PolicyError, PolicyUnavailable):
            self._close_controllers()
            raise
        self._clock = NodeClock(node)
        self._now = self._clock.now
        self.buffer = ObservationBuffer(
            parameters.input_timeouts, parameters.instruction, parameters.sync_tolerance, self._now()
        )
        self.chunk_publisher: Publisher = node.create_publisher(ActionChunk, CHUNK_TOPIC, 10)
        self.loop = CommandLoop(
            ChunkExecutor(limits, _execution(parameters)),
            self.controllers,
            self._now,
            1.0 / parameters.command_rate,
            self._may_move,
            self.on_error,
        )
        self.worker = InferenceWorker(
            self._policy,
            self.buffer,
            self._decode,
            self._now,
            parameters.load_timeout,
            listener=self,
        )
        self.subscriptions = self._subscribe()
        self._hears_latched = False
        self.subscribe_latched()
        self.introspection = (
            Introspection(node, parameters.joint_names, parameters.marker_links) if parameters.introspection else None
        )
        self._apply()

    @property
    def controller_error(self) -> str:
        """Why a controller does not do what it is told; empty where all do."""
        return next(filter(None, (controller.error for controller in self.controllers)), "")

    def close(self) -> None:
        self.stop()
        self.loop.close()
        self.worker.close(CLOSE_TIMEOUT)
        for subscription in self.subscriptions:
            self.node.destroy_subscription(subscription)
        self._close_controllers()
        self._clock.close()
        self.node.destroy_publisher(self.chunk_publisher)
        if self.introspection is not None:
            self.introspection.close()

    def start(self) -> None:
        self._stale = set()
        self.loop.open(self.parameters.dry_run)
        self.worker.resume()

    def stop(self) -> None:
        """End inference and let the robot hold."""
        self.worker.pause()
        self.loop.shut()

    def change(self, values: Mapping[str, Any]) -> None:
        """Let live parameters take effect."""
        self.parameters = replace(self.parameters, **values)
        self._apply()

    def _apply(self) -> None:
        parameters = self.parameters
        self.worker.max_rate = parameters.inference_rate
        self.worker.inference_timeout = parameters.inference_timeout
        self.buffer.set_timeouts(parameters.input_timeouts, parameters.sync_tolerance)
        self.loop.set_speed_scaling(parameters.speed_scaling)

    def _close_controllers(self) -> None:
        for controller in self.controllers:
            controller.close()

    # What the worker asks and tells

    def wants_chunk(self) -> bool:
        return self.loop.wants_chunk()

    def guidance_target(self, stamp_ns: int) -> GuidanceTarget | None:
        return self.loop.guidance_target(stamp_ns) if self.parameters.strategy == "rtc" else None

    def on_chunk(self, chunk: PolicyChunk, snapshot: Snapshot, latency: float) -> None:
        measured = positions_from_message(self.buffer.joint_states, self.parameters.joint_names)
        self.loop.add(chunk, measured)
        self._publish_chunk(chunk, snapshot)
        self.statistics.add(self._now(), latency)
        line = log_line("chunk", event="chunk", latency=latency, inference_time=chunk.inference_time)
        self.node.get_logger().debug(line, throttle_duration_sec=1.0)
        self.last_error = ""
        if self.introspection is not None:
            self._show(self.introspection, chunk, snapshot, latency)

    def _show(self, introspection: Introspection, chunk: PolicyChunk, snapshot: Snapshot, latency: float) -> None:
        introspection.publish_trajectory(chunk)
        if introspection.wants_image:
            activity = "moving" if self.loop.moving else "holding"
            dry = ", dry run" if self.parameters.dry_run else ""
            lines = [chunk.instruction, f"{activity}{dry}, latency {latency * 1e3:.0f} ms, chunk {self.sequence - 1}"]
            introspection.publish_image(time_message(chunk.stamp_ns), self._decode(snapshot).images, lines)

    def on_error(self, error: Exception) -> None:
        self.loop.hold()
        text = str(error) if isinstance(error, INFERENCE_ERRORS) else f"{type(error).__name__}: {error}"
        self.last_error = text
        line = log_line("no action, the robot holds", event="inference_failed", reason=text)
        self.node.get_logger().error(line, throttle_duration_sec=LOG_INTERVAL)

    def on_restart(self) -> None:
        self.restarts += 1
        self.node.get_logger().warning(log_line("the policy was opened again", event="restarted", times=self.restarts))

    def _may_move(self) -> bool:
        reasons = self.buffer.stale_inputs(self._now())
        failing = self.controller_error
        if failing and not self._failing:
            self.node.get_logger().error(log_line("the robot holds", event="controller_failed", reason=failing))
        self._failing = failing
        for name in reasons.keys() - self._stale:
            line = log_line("the robot holds", event="stale_input", input=name, reason=reasons[name])
            self.node.get_logger().warning(line)
        for name in self._stale - reasons.keys():
            self.node.get_logger().info(log_line("the input is back", event="fresh_input", input=name))
        self._stale = set(reasons)
        return not reasons and not failing

    # Topics

    def _subscribe(self) -> list[Subscription]:
        node, parameters = self.node, self.parameters
        subscriptions = [
            # Serialized: most images are never decoded, because a newer one comes before the next inference.
            node.create_subscription(
                image_type(camera.topic), camera.topic, partial(self._put_image, name), NEWEST, raw=True
            )
            for name, camera in parameters.cameras.items()
        ]
        subscriptions.append(
            node.create_subscription(JointState, parameters.joint_state_topic, self._put_joint_states, NEWEST)
        )
        subscriptions.append(node.create_subscription(Empty, HEARTBEAT_TOPIC, self._on_heartbeat, 1))
        subscriptions.append(node.create_subscription(String, INSTRUCTION_TOPIC, self._set_instruction, 1))
        return subscriptions

    def subscribe_latched(self) -> None:
        """Listen to what publishers of the instruction have kept, as soon as there is one that keeps it.

        Not before: next to a publisher that keeps nothing, such as a plain `ros2 topic pub`, such a subscription makes
        both sides warn of an incompatibility that is none, because the other subscription hears it.
        """
        publishers = self.node.get_publishers_info_by_topic(self.node.resolve_topic_name(INSTRUCTION_TOPIC))
        keeping = any(about.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for about in publishers)
        if keeping and not self._hears_latched:
            silent = SubscriptionEventCallbacks(incompatible_qos=lambda _: None)
            self.subscriptions.append(
                self.node.create_subscription(
                    String, INSTRUCTION_TOPIC, self._set_instruction, LATCHED, event_callbacks=silent
                )
            )
            self._hears_latched = True

    def _put_image(self, camera: str, message: bytes) -> None:
        self.buffer.put(camera, serialized_stamp(message), message)

    def _put_joint_states(self, message: JointState) -> None:
        self.buffer.put(JOINT_STATES, nanoseconds(message.header.stamp), message)

    def _decode(self, snapshot: Snapshot) -> Observation:
        types = {name: image_type(camera.topic) for name, camera in self.parameters.cameras.items()}
        images = {camera: deserialize_message(raw, types[camera]) for camera, raw in snapshot.images.items()}
        return observation_from_snapshot(replace(snapshot, images=images), self.parameters.joint_names)

    def _on_heartbeat(self, message: Empty) -> None:
        self.buffer.put(HEARTBEAT, self._now(), message)

    def _set_instruction(self, message: String) -> None:
        if message.data != self.buffer.instruction:
            line = log_line("new instruction", event="instruction", instruction=message.data[:200])
            self.node.get_logger().info(line, throttle_duration_sec=1.0)
        self.buffer.put(INSTRUCTION, self._now(), message.data)

    def _publish_chunk(self, chunk: PolicyChunk, snapshot: Snapshot) -> None:
        message = ActionChunk(
            sequence=self.sequence,
            instruction=chunk.instruction,
            cameras=list(snapshot.images),
            image_stamps=[time_message(serialized_stamp(image)) for image in snapshot.images.values()],
            joint_names=self.parameters.joint_names,
            time_step=self.parameters.time_step,
            horizon=len(chunk.actions),
            inference_time=chunk.inference_time,
            backend=self.policy.backend,
        )
        message.header.stamp = time_message(chunk.stamp_ns)
        message.actions.frombytes(chunk.actions.astype(np.float32).tobytes())
        self.chunk_publisher.publish(message)
        self.sequence += 1


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
    )


def _policy_options(parameters: Parameters) -> PolicyOptions:
    return PolicyOptions(
        folder=parameters.checkpoint,
        backend=parameters.backend,
        robot=parameters.robot,
        dtype=parameters.dtype,
        precision=parameters.precision,
        num_steps=parameters.num_steps or None,
        seed=parameters.seed,
        with_guidance=parameters.strategy == "rtc",
    )
