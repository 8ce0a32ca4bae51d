"""Live replay: play a bag into the running node in the bag's time, and record what the node answers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, Float64MultiArray, String
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.bags.reader import Bag, BagMessage, open_bag
from pi0_ttnn_ros.execution.safety import Limits, limited_quantities
from pi0_ttnn_ros.msg import ActionChunk, PolicyStatus
from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import Topics
from pi0_ttnn_ros.rclpy_utils.messages import image_type, time_message
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from pi0_ttnn_ros.replay.episode import CommandStream, Episode, Prediction
from pi0_ttnn_ros.replay.feed import BagFeed
from pi0_ttnn_ros.replay.options import MEASURED
from pi0_ttnn_ros.replay.predictions import ReplayError

CLOCK_PERIOD_NS = 5_000_000  # of the bag between two messages on /clock
REPEAT = 0.1  # seconds between repetitions of the first messages until the node is active
DISCOVERY = 3.0  # seconds to discover other nodes
MAX_ERRORS = 10  # of the node that are reported
# Rounding in messages.
TOLERANCE = 1e-6


def play_bag(path: Path, parameters: Parameters, topics: Topics, limits: Limits, ground_truth: str) -> Episode:
    """Play a bag into the node as soon as it is active, and return what it answered.

    Raises:
        BagError: the bag lacks what the node needs.
        ReplayError: the node is missing or does not become active, or a robot is subscribed to its commands.
    """
    with open_bag(path) as bag, _player(topics, parameters) as player:
        feed = BagFeed(bag, topics, parameters)
        player.check_that_alone()
        player.wait_until_active(bag, parameters.load_timeout + parameters.input_wait)
        late = player.play(bag)
        player.advance_clock(bag.end_ns, parameters.max_chunk_age)
        for _ in feed.snapshots():
            pass
        recording = feed.recording(ground_truth)
        measured = feed.recording(MEASURED)
        problems = [*bag.problems, *(f"{path}: the node reported: {error}" for error in player.errors)]
        if late > REPEAT:
            problems.append(f"{path}: played up to {late:.2f} s late: this machine is too slow for the timing to count")
        return Episode(
            bag=path,
            start_ns=bag.start_ns,
            end_ns=bag.end_ns,
            predictions=[
                _prediction(chunk, time_ns, measured.times_ns, measured.positions) for time_ns, chunk in player.chunks
            ],
            recording=recording,
            ground_truth=ground_truth,
            unusable=dict(feed.unusable),
            joint_states=feed.joint_states,
            frames=feed.frames(),
            problems=problems,
            commands=command_stream(player.commands, parameters, limits),
        )


def command_stream(
    commands: Sequence[tuple[int, JointTrajectory]], parameters: Parameters, limits: Limits
) -> CommandStream:
    """Return the regularity of commands and which limits they exceed; each command has its receive time (ns)."""
    violations: dict[str, int] = {}
    for _, message in commands:
        for name in _violations(message, parameters.joint_names, limits):
            violations[name] = violations.get(name, 0) + 1
    gaps = np.diff([time_ns for time_ns, _ in commands]) * 1e-9
    return CommandStream(len(commands), float(gaps.max(initial=0.0)), violations)


class _Player(Node):
    """Publishes a bag's inputs and `/clock`, and receives chunks, commands and status."""

    def __init__(self, topics: Topics, parameters: Parameters, context: Context) -> None:
        super().__init__("bag_player", context=context, use_global_arguments=False)
        self.chunks: list[tuple[int, ActionChunk]] = []
        self.commands: list[tuple[int, JointTrajectory]] = []
        self.errors: list[str] = []
        self._topics = topics
        self._instruction = parameters.instruction
        self._now_ns = 0
        self._status: PolicyStatus | None = None
        self._clock_publisher = self.create_publisher(Clock, "/clock", qos_profile_sensor_data)
        self._inputs = self._make_publishers(topics)
        self._enabling = self.create_client(SetBool, f"{topics.node}/enable")
        self._set_parameters = self.create_client(SetParameters, f"{topics.node}/set_parameters")
        self.create_subscription(PolicyStatus, topics.status, self._on_status, LATCHED)
        self.create_subscription(ActionChunk, topics.chunks, self._on_chunk, 100)
        self._controllers = []
        for name, topic in topics.controllers.items():
            # The node moves nothing that nobody subscribes to.
            if parameters.controllers[name].type == "joint_trajectory":
                self.create_subscription(JointTrajectory, topic, self._on_command, 100)
                self._controllers.append(topic)
            elif parameters.controllers[name].type == "position":
                self.create_subscription(Float64MultiArray, topic, lambda _: None, 1)
                self._controllers.append(topic)

    def check_that_alone(self) -> None:
        """Check that no robot would follow the commands, and that nothing else publishes the inputs.

        Raises:
            ReplayError: there is another node.
        """
        time.sleep(DISCOVERY)
        followers = [topic for topic in self._controllers if self.count_subscribers(topic) > 1]
        if followers:
            raise ReplayError(
                f"{followers} have other subscribers: a robot would move. Replay where no controller runs, in another "
                f"ROS_DOMAIN_ID or namespace"
            )
        sources = [topic for topic in self._inputs if self.count_publishers(topic) > 1]
        if sources:
            raise ReplayError(f"{sources} have other publishers: replay in another ROS_DOMAIN_ID or namespace")

    def wait_until_active(self, bag: Bag, timeout: float) -> None:
        """Publish the first message of each input until the node is active, and enable it.

        Raises:
            ReplayError: it is not active and enabled after `timeout` seconds, or reports an error.
        """
        first = self._first_messages(bag)
        deadline = time.monotonic() + timeout
        while not (self._status and self._status.lifecycle_state == "active"):
            if self._status and self._status.lifecycle_state == "unconfigured" and self._status.last_error:
                raise ReplayError(f"the node cannot be configured: {self._status.last_error}")
            if time.monotonic() > deadline:
                seen = (
                    f"is {self._status.lifecycle_state}, {self._status.reason}" if self._status else "was not received"
                )
                raise ReplayError(f"the node under {self._topics.status} {seen} after {timeout:g} s: launch it")
            self._publish_clock(bag.start_ns)
            if self._instruction:
                self._inputs[self._topics.instruction].publish(String(data=self._instruction))
            for message in first:
                self._publish(message)
            time.sleep(REPEAT)
        self._enable(deadline)

    def _enable(self, deadline: float) -> None:
        """Enable the node; the recorded robot does not follow it, and recorded images may repeat themselves."""
        values = {"max_tracking_time": 0.0, "repeated_input_timeout": 0.0}
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        self._call(self._set_parameters, SetParameters.Request(parameters=parameters), deadline)
        self._call(self._enabling, SetBool.Request(data=True), deadline)

    def _call(self, client: Client, request: Any, deadline: float) -> None:
        """Call a service of the node and wait for its answer."""
        answer = client.call_async(request) if client.wait_for_service(max(0.0, deadline - time.monotonic())) else None
        while answer is None or not answer.done():
            if time.monotonic() > deadline:
                raise ReplayError(f"the node does not answer on {client.srv_name}")
            time.sleep(CLOCK_PERIOD_NS * 1e-9)

    def play(self, bag: Bag) -> float:
        """Publish the messages at their times; return the largest delay, in seconds."""
        self._publish_clock(bag.start_ns)
        start, late = time.monotonic(), 0.0
        for message in bag.messages([topic for topic in self._inputs if topic in bag.topics]):
            while self._now_ns < message.time_ns:
                self._publish_clock(min(self._now_ns + CLOCK_PERIOD_NS, message.time_ns))
                ahead = start + (self._now_ns - bag.start_ns) * 1e-9 - time.monotonic()
                if ahead > 0:
                    time.sleep(ahead)
                late = max(late, -ahead)
            self._publish(message)
        return late

    def advance_clock(self, start_ns: int, seconds: float) -> None:
        """Advance the bag's clock from `start_ns` in real time, for the answers to the last messages."""
        for step in range(int(seconds * 1e9) // CLOCK_PERIOD_NS):
            self._publish_clock(start_ns + step * CLOCK_PERIOD_NS)
            time.sleep(CLOCK_PERIOD_NS * 1e-9)

    def _make_publishers(self, topics: Topics) -> dict[str, Publisher]:
        images: dict[str, type] = {topic: image_type(topic) for topic in topics.cameras.values()}
        sensors = images | {topics.joint_states: JointState}
        publishers = {
            topic: self.create_publisher(kind, topic, qos_profile_sensor_data) for topic, kind in sensors.items()
        }
        publishers[topics.instruction] = self.create_publisher(String, topics.instruction, LATCHED)
        publishers[topics.heartbeat] = self.create_publisher(Empty, topics.heartbeat, 1)
        return publishers

    def _first_messages(self, bag: Bag) -> list[BagMessage]:
        wanted = [topic for topic in self._inputs if topic in bag.topics and bag.topics[topic].count]
        first: dict[str, BagMessage] = {}
        for message in bag.messages(wanted):
            first.setdefault(message.topic, message)
            if len(first) == len(wanted):
                break
        return list(first.values())

    def _publish(self, message: BagMessage) -> None:
        # An instruction among the parameters takes precedence over the bag's.
        if message.topic != self._topics.instruction or not self._instruction:
            self._inputs[message.topic].publish(bytes(message.raw))

    def _publish_clock(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._clock_publisher.publish(Clock(clock=time_message(now_ns)))

    def _on_status(self, message: PolicyStatus) -> None:
        self._status = message
        if message.last_error and message.last_error not in self.errors and len(self.errors) < MAX_ERRORS:
            self.errors.append(message.last_error)

    def _on_chunk(self, message: ActionChunk) -> None:
        self.chunks.append((self._now_ns, message))

    def _on_command(self, message: JointTrajectory) -> None:
        self.commands.append((self._now_ns, message))


@contextmanager
def _player(topics: Topics, parameters: Parameters) -> Iterator[_Player]:
    """Yield a player that receives in its own thread."""
    context = Context()
    rclpy.init(context=context)
    player = _Player(topics, parameters, context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(player)
    thread = threading.Thread(target=partial(_spin, executor), daemon=True)
    thread.start()
    try:
        yield player
    finally:
        executor.shutdown()
        thread.join()
        player.destroy_node()
        context.try_shutdown()


def _spin(executor: SingleThreadedExecutor) -> None:
    with contextlib.suppress(rclpy.executors.ExternalShutdownException):
        executor.spin()


def _prediction(chunk: ActionChunk, time_ns: int, times_ns: np.ndarray, positions: np.ndarray) -> Prediction:
    stamp_ns = nanoseconds(chunk.header.stamp)
    index = min(int(np.searchsorted(times_ns, stamp_ns)), len(times_ns) - 1)
    actions = np.array(chunk.actions, np.float32).reshape(chunk.horizon, -1)
    return Prediction(
        stamp_ns, positions[index].astype(np.float32), actions, chunk.inference_time, (time_ns - stamp_ns) * 1e-9
    )


def _violations(message: Any, joint_names: Sequence[str], limits: Limits) -> set[str]:
    """Return which limits of which joints a commanded trajectory exceeds, in words."""
    joints = [joint_names.index(name) for name in message.joint_names]
    times = np.array([nanoseconds(point.time_from_start) for point in message.points]) * 1e-9
    positions = np.array([point.positions for point in message.points])
    velocities = np.array([point.velocities for point in message.points])
    accelerations = np.diff(velocities, axis=0) / np.diff(times)[:, None]
    found = set()
    for label, (values, low, high) in limited_quantities(positions, velocities, accelerations, limits).items():
        inside = (values >= low[joints] - TOLERANCE) & (values <= high[joints] + TOLERANCE)
        found |= {f"{label} of {joint_names[joints[column]]}" for column in np.flatnonzero(~inside.all(axis=0))}
    return found
