"""What lives from configure to cleanup: a policy, its inputs, its worker and what it commands."""

from __future__ import annotations

from functools import partial

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.policy import ActionChunk as PolicyChunk
from pi0_ttnn_core.policy import Observation, ObservationError, Policy, load_policy
from pi0_ttnn_ros import conversions
from pi0_ttnn_ros.chunk_executor import ChunkExecutor, Trajectory
from pi0_ttnn_ros.conversions import ConversionError
from pi0_ttnn_ros.inference_worker import InferenceWorker
from pi0_ttnn_ros.input_check import check_inputs, image_type
from pi0_ttnn_ros.msg import ActionChunk
from pi0_ttnn_ros.observation_buffer import JOINT_STATES, ObservationBuffer, Snapshot
from pi0_ttnn_ros.parameters import Parameters
from pi0_ttnn_ros.safety import Limits, SafetyError
from pi0_ttnn_ros.status import Statistics

# What bad input leads to; anything else that goes wrong in an inference is a fault of ours and logged with its type.
INFERENCE_ERRORS = (ConversionError, ObservationError, SafetyError)

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# As the sensor-data profile, but only the newest counts: an image that waits in a queue is decoded for nothing.
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LOG_INTERVAL = 5.0  # seconds between two logs of the same lasting trouble
CLOSE_TIMEOUT = 2.0  # seconds that an inference under way may take to end


class ConfiguredPolicy:
    """All that lives from configure to cleanup: the policy, its inputs, its worker and what it commands."""

    def __init__(self, node: Node, parameters: Parameters) -> None:
        self.node = node
        self.parameters = parameters
        self.policy = _load_policy(parameters)
        check_inputs(node, parameters)
        limits = Limits(parameters.position_min, parameters.position_max, parameters.max_velocity)
        self.chunk_executor = ChunkExecutor(limits, parameters.time_step)
        timeouts = dict.fromkeys(parameters.cameras, parameters.image_timeout)
        timeouts[JOINT_STATES] = parameters.joint_state_timeout
        self.buffer = ObservationBuffer(timeouts, parameters.instruction)
        self.statistics = Statistics()
        self.sequence = 0
        self.last_error = ""
        self.trajectory_publisher: Publisher = node.create_publisher(JointTrajectory, parameters.trajectory_topic, 1)
        self.chunk_publisher: Publisher = node.create_publisher(ActionChunk, "~/action_chunk", 10)
        self.subscriptions = self._subscribe()
        self.worker = InferenceWorker(
            self.policy, self.buffer, self._decode, self._now, parameters.inference_rate, listener=self
        )

    def close(self) -> None:
        if self.worker.close(CLOSE_TIMEOUT):
            self.policy.backend.close()
        for subscription in self.subscriptions:
            self.node.destroy_subscription(subscription)
        self.node.destroy_publisher(self.trajectory_publisher)
        self.node.destroy_publisher(self.chunk_publisher)

    def start_acting(self) -> None:
        self.chunk_executor.reset()
        self.worker.resume()

    def stop_acting(self) -> None:
        """End inference and let the robot hold."""
        self.worker.pause()
        self._hold()

    # The worker's listener

    def on_chunk(self, chunk: PolicyChunk, observation: Observation, latency: float) -> None:
        now = self._now()
        self._command(self.chunk_executor.splice(chunk, observation.state, now))
        self._publish_chunk(chunk)
        self.statistics.add(now, latency)
        self.last_error = ""

    def on_stale(self) -> None:
        self._hold()
        for name, reason in self.buffer.stale_inputs(self._now()).items():
            self.node.get_logger().warning(f"stale input, the robot holds: {name}: {reason}")

    def on_error(self, error: Exception) -> None:
        self._hold()
        text = str(error) if isinstance(error, INFERENCE_ERRORS) else f"{type(error).__name__}: {error}"
        self.last_error = text
        self.node.get_logger().error(f"no action, the robot holds: {text}", throttle_duration_sec=LOG_INTERVAL)

    def _now(self) -> int:
        return self.node.get_clock().now().nanoseconds

    # Topics

    def _subscribe(self) -> list[Subscription]:
        node, parameters = self.node, self.parameters
        subscriptions = [
            node.create_subscription(image_type(topic), topic, partial(self._put, camera), NEWEST)
            for camera, topic in zip(parameters.cameras, parameters.camera_topics, strict=True)
        ]
        subscriptions.append(
            node.create_subscription(JointState, parameters.joint_state_topic, partial(self._put, JOINT_STATES), NEWEST)
        )
        # A transient-local subscription does not hear a volatile publisher, such as a plain `ros2 topic pub`, and a
        # volatile one gets nothing from before its time: the instruction must not be lost either way.
        for qos in (LATCHED, QoSProfile(depth=1)):
            subscriptions.append(node.create_subscription(String, "~/instruction", self._set_instruction, qos))
        return subscriptions

    def _put(self, name: str, message: Image | CompressedImage | JointState) -> None:
        self.buffer.put(name, conversions.nanoseconds(message.header.stamp), message)

    def _set_instruction(self, message: String) -> None:
        if message.data != self.buffer.instruction:
            self.node.get_logger().info(f"instruction: {message.data!r}")
            self.buffer.set_instruction(message.data)

    def _decode(self, snapshot: Snapshot) -> Observation:
        images = {}
        for camera, message in snapshot.images.items():
            try:
                images[camera] = conversions.image_from_message(message)
            except ConversionError as error:
                raise ConversionError(f"camera {camera!r}: {error}") from error
        state = conversions.positions_from_message(snapshot.joint_states, self.parameters.joint_names)
        return Observation(images, state, snapshot.instruction, snapshot.stamp)

    def _hold(self) -> None:
        trajectory = self.chunk_executor.hold(self._now())
        if trajectory is not None:
            self._command(trajectory)

    def _command(self, trajectory: Trajectory) -> None:
        message = conversions.trajectory_message(
            trajectory.stamp,
            self.parameters.joint_names,
            trajectory.times,
            trajectory.positions,
            trajectory.velocities,
        )
        self.trajectory_publisher.publish(message)

    def _publish_chunk(self, chunk: PolicyChunk) -> None:
        message = ActionChunk(
            sequence=self.sequence,
            instruction=chunk.instruction,
            joint_names=self.parameters.joint_names,
            time_step=self.parameters.time_step,
            horizon=len(chunk.actions),
            inference_time=chunk.inference_time,
            backend=self.policy.backend.name,
        )
        message.header.stamp = conversions.time_message(chunk.stamp)
        message.actions.frombytes(chunk.actions.astype(np.float32).tobytes())
        self.chunk_publisher.publish(message)
        self.sequence += 1


def _load_policy(parameters: Parameters) -> Policy:
    """Load the policy, which is checked to fit the robot, and run it once: the first inference is the slowest."""
    policy = load_policy(
        parameters.checkpoint,
        parameters.backend,
        parameters.robot,
        dtype=parameters.dtype,
        precision=parameters.precision,
        num_steps=parameters.num_steps or None,
        seed=parameters.seed,
    )
    images = {camera: np.zeros((48, 64, 3), np.uint8) for camera in parameters.cameras}
    policy.infer(Observation(images, np.zeros(policy.state_size, np.float32), "warm up", 0))
    return policy
