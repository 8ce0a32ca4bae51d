"""pi0-ttnn bench node: what the node adds to the model's time, and how evenly its commands arrive.

A process of its own publishes three 640x480 cameras at 30 Hz and joint states at 50 Hz, as a robot does. The overhead
of a chunk is: its receipt, right after the first trajectory made from it - stamp of its observation (the joint states'
publication) - time that the backend took for the model. What is left is the node's part: transport, waiting, decoding,
transforms, limits, publication.

The gaps between commands are taken where the middleware stamps their arrival, in a subscriber's process.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.backend import Backend
from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS, REST_POSE, make_checkpoint
from pi0_ttnn_core.policy import Policy
from pi0_ttnn_ros.inference.policy_server import load_and_warm_up, serve
from pi0_ttnn_ros.inference.requests import PolicyOptions
from pi0_ttnn_ros.msg import ActionChunk
from pi0_ttnn_ros.node import policy_node
from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.rclpy_utils.run_node import run_node
from pi0_ttnn_ros.system.machine import cpu_name
from pi0_ttnn_ros.system.scheduling import use_realtime_priority

NAMESPACE = "/pi0_bench"
WIDTH, HEIGHT = 640, 480
CAMERA_RATE, JOINT_STATE_RATE = 30.0, 50.0  # Hz
JOINTS = [f"joint_{number}" for number in range(2 * len(REST_POSE))]
LIMITS = {"min_position": -3.0, "max_position": 3.0, "max_velocity": 1.0, "max_acceleration": 5.0}
TIMEOUT_S = 60.0  # for the node to start
CONTROLLER_MANAGER_PRIORITY = 50  # real-time, of ros2_control's, which receives the commands on a robot
LONG_GAP_S = 0.04  # between two commands at 50 Hz
THIS = (sys.executable, "-m", "pi0_ttnn_ros.bench.node")


class Publishers(Node):
    """The robot: publishes images and joint states at their rates."""

    def __init__(self) -> None:
        super().__init__("publishers", namespace=NAMESPACE)
        pixels = np.random.default_rng(0).integers(0, 256, HEIGHT * WIDTH * 3, np.uint8)
        self._image = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
        self._image.data.frombytes(pixels.data)
        self._joint_state = JointState(name=JOINTS, position=[*REST_POSE, *REST_POSE])
        self._images = [self.create_publisher(Image, camera, qos_profile_sensor_data) for camera in CAMERAS]
        self._joint_states = self.create_publisher(JointState, "joint_states", qos_profile_sensor_data)
        self.create_timer(1.0 / CAMERA_RATE, self._publish_images)
        self.create_timer(1.0 / JOINT_STATE_RATE, self._publish_joint_states)

    def _publish_images(self) -> None:
        for publisher in self._images:
            self._image.header.stamp = self.get_clock().now().to_msg()
            publisher.publish(self._image)

    def _publish_joint_states(self) -> None:
        self._joint_state.header.stamp = self.get_clock().now().to_msg()
        self._joint_states.publish(self._joint_state)


class Stopwatch(Node):
    """Receives chunks and commands and takes their times.

    Attributes:
        overheads: s, of each chunk.
        model_times: s, that the backend took for each chunk.
        commands: of each command when it was sent and when it arrived, s, and the serialized message.
        change_state: client of the node's service.
    """

    def __init__(self) -> None:
        super().__init__("stopwatch", namespace=NAMESPACE)
        self.overheads: list[float] = []
        self.model_times: list[float] = []
        self.commands: list[tuple[float, float, bytes]] = []
        self.change_state = self.create_client(ChangeState, "pi0_policy/change_state")
        self.create_subscription(ActionChunk, "pi0_policy/action_chunk", self._on_chunk, 10)
        topic = "joint_trajectory_controller/joint_trajectory"
        self.create_subscription(JointTrajectory, topic, self._on_command, 100, raw=True)  # type: ignore[arg-type]

    def _on_chunk(self, chunk: ActionChunk) -> None:
        total = (self.get_clock().now().nanoseconds - nanoseconds(chunk.header.stamp)) * 1e-9
        self.overheads.append(total - chunk.inference_time)
        self.model_times.append(chunk.inference_time)

    def _on_command(self, command: bytes, information: dict[str, int]) -> None:
        sent, received = information["source_timestamp"], information["received_timestamp"]
        self.commands.append((sent * 1e-9, received * 1e-9, command))

    def gaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the gaps from each command in motion to the next one, as sent and as received, s."""
        moving = [
            any(any(point.velocities) for point in deserialize_message(command, JointTrajectory).points)
            for *_, command in self.commands[:-1]
        ]
        sent, received = np.diff([times for *times, _ in self.commands], axis=0)[moving].T
        return sent, received

    def clear(self) -> None:
        """Drop what was received."""
        for received in (self.overheads, self.model_times, self.commands):
            received.clear()


def node_command(checkpoint: Path, strategy: str, inference_time: float) -> list[str]:
    """Return the command that runs the policy node under test; `inference_time` in s."""
    parameters = {
        "checkpoint": checkpoint,
        "instruction": "bench",
        "start_enabled": True,
        "num_steps": 1,
        "cameras": list(CAMERAS),
        **{f"{camera}.topic": camera for camera in CAMERAS},
        "joint_names": JOINTS,
        **{f"joint_limits.{joint}.{name}": value for joint in JOINTS for name, value in LIMITS.items()},
        "max_jump_time": 5.0,
        "max_tracking_time": 0.0,
        "repeated_input_timeout": 0.0,
        "inference_rate": 10.0,
        "strategy": strategy,
    }
    options = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    program = [*THIS, "node", str(inference_time)]
    return [*program, "--ros-args", "-r", f"__ns:={NAMESPACE}", *options]


class SlowBackend:
    """A backend whose inference takes at least `seconds`, without using the processor: like that of a card."""

    def __init__(self, backend: Backend, seconds: float) -> None:
        self.name, self.device, self.config = backend.name, backend.device, backend.config
        self._backend = backend
        self._seconds = seconds

    def sample_actions(self, *arguments: Any) -> np.ndarray:
        """Run the wrapped backend, then sleep for the rest of the time; see `Backend.sample_actions`."""
        end = time.perf_counter() + self._seconds
        actions = self._backend.sample_actions(*arguments)
        time.sleep(max(0.0, end - time.perf_counter()))
        return actions

    def close(self) -> None:
        """Close the wrapped backend."""
        self._backend.close()


def slow_policy(options: PolicyOptions, seconds: float) -> Policy:
    """Load a policy whose inference takes at least `seconds`."""
    policy = load_and_warm_up(options)
    policy.backend = SlowBackend(policy.backend, seconds)
    return policy


def measure(seconds: float) -> Stopwatch:
    """Activate the node, let it warm up for two seconds and measure for `seconds`."""
    use_realtime_priority(CONTROLLER_MANAGER_PRIORITY)
    rclpy.init()
    stopwatch = Stopwatch()
    executor = SingleThreadedExecutor()
    executor.add_node(stopwatch)
    if not stopwatch.change_state.wait_for_service(TIMEOUT_S):
        sys.exit("bench: the policy node did not start")
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        future = stopwatch.change_state.call_async(ChangeState.Request(transition=Transition(id=transition)))
        executor.spin_until_future_complete(future, TIMEOUT_S)
        response = future.result()
        if response is None or not response.success:
            sys.exit("bench: the policy node could not be activated; its log is above")
    for duration in (2.0, seconds):
        stopwatch.clear()
        deadline = time.monotonic() + duration
        while time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)
    return stopwatch


def bench(seconds: float, strategy: str, inference_time: float) -> None:
    """Measure for `seconds` and print one line per figure.

    Args:
        seconds: duration of the measurement.
        strategy: the node's parameter.
        inference_time: s, that the model takes at least.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "tiny"
        make_checkpoint("tiny", checkpoint, seed=0)
        # One thread for the tiny model: a model on the card does not take cores from node and robot either.
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen([*THIS, "publish"]),
            subprocess.Popen(node_command(checkpoint, strategy, inference_time), env=one_thread),
        ]
        try:
            stopwatch = measure(seconds)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(10)
    if not stopwatch.overheads:
        sys.exit("bench: no chunk arrived")
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, {cpu_name()}")
    print(f"inputs: {len(CAMERAS)} cameras {WIDTH}x{HEIGHT} at {CAMERA_RATE:g} Hz, joints at {JOINT_STATE_RATE:g} Hz")
    for label, values in (("overhead", stopwatch.overheads), ("model", stopwatch.model_times)):
        p50, p95 = np.percentile(values, [50, 95]) * 1e3
        print(f"{label}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, max {max(values) * 1e3:.1f} ms, {len(values)} chunks")
    for label, gaps in zip(("sent", "received"), stopwatch.gaps(), strict=True):
        p50, p95, p99 = np.percentile(gaps, [50, 95, 99]) * 1e3
        print(
            f"gaps between commands ({strategy}, {label}): p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, "
            f"max {gaps.max() * 1e3:.1f} ms, "
            f"{np.count_nonzero(gaps > LONG_GAP_S)} of {len(gaps)} above {LONG_GAP_S * 1e3:g} ms"
        )


def main() -> None:
    """Run one process of the bench: PART [INFERENCE_TIME [...]]."""
    part, *options = sys.argv[1:]
    if part == "publish":
        run_node(lambda stopping: Publishers())
    elif part == "node":
        policy_node.main((*THIS, "serve", options[0]))
    elif part == "serve":
        serve(socket.socket(fileno=int(options[1])), partial(slow_policy, seconds=float(options[0])))


if __name__ == "__main__":
    main()
