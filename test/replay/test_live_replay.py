"""A bag played into the running node, recorded as a robot would record it, and replayed again."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from pi0_ttnn_ros.msg import ActionChunk
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS
from pi0_ttnn_ros.bags.writer import BagWriter, qos
from pi0_ttnn_ros.parameters.joint_limits import joint_limits
from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from pi0_ttnn_ros.parameters.topics import topics_of
from pi0_ttnn_ros.replay.live import play_bag
from pi0_ttnn_ros.replay.predictions import ReplayError
from support.bags import PARAMETERS, START, messages, motion, write_bag
from support.processes import Listener, Process
from support.reproduced_chunks import assert_reproduced

NAMESPACE = "/live"
SECONDS = 2.0
# Where the cores are busy the node hears late, though the bag's clock waits for nobody.
PATIENCE = {
    "image_timeout": 10.0,
    "joint_state_timeout": 10.0,
    "max_jump_time": 5.0,
    "sync_tolerance": 1.0,
    "load_timeout": 100.0,
}


class Recorder(Listener):
    """Keeps what is published, as bytes, and writes it as a bag."""

    def __init__(self) -> None:
        super().__init__("recorder", NAMESPACE)
        self._recorded: list[tuple[str, str, bytes]] = []
        kinds = {f"{NAMESPACE}/{camera}/image": Image for camera in CAMERAS}
        kinds |= {f"{NAMESPACE}/joint_states": JointState, f"{NAMESPACE}/pi0_policy/action_chunk": ActionChunk}
        for topic, kind in kinds.items():
            self._subscribe_raw(topic, kind)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._record)

    def _subscribe_raw(self, topic: str, kind: type) -> None:
        name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"

        def keep(raw: bytes) -> None:
            self._recorded.append((topic, name, raw))

        # Deep, so that a recorder that is late under load loses nothing that the node received.
        qos_profile = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.node.create_subscription(kind, topic, keep, qos_profile, raw=True)

    def start(self) -> None:
        self._thread.start()

    def activate(self) -> None:
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert self.call(ChangeState, "pi0_policy/change_state", request).success

    def _record(self) -> None:
        self.activate()
        self.spin_until(self._over.is_set, label="the end")

    def write(self, folder: Path) -> Path:
        self._over.set()
        self._thread.join()
        self.close()
        with BagWriter(folder, {topic: (kind, qos(10)) for topic, kind, _ in self._recorded}) as bag:
            for number, (topic, _, raw) in enumerate(self._recorded):
                bag.write(topic, START + number, raw)
        return folder


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    file = tmp_path_factory.mktemp("robot") / "robot.yaml"
    file.write_text(PARAMETERS)
    return file


def bag_in(namespace: str, folder: Path, seconds: float) -> Path:
    """Write a bag of sensors only: the instruction is a parameter, and nothing commands the arm but the node."""
    contents = [m for m in messages(seconds) if m.topic.endswith(("image", "joint_states"))]
    return write_bag(folder, [replace(m, topic=namespace + m.topic) for m in contents])


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return bag_in(NAMESPACE, tmp_path_factory.mktemp("bags") / "bag", SECONDS)


def robot_of(robot, checkpoint, namespace=NAMESPACE, **changes):
    """Return parameters, topics and limits."""
    parameters = parameters_from_yaml(
        robot, {"checkpoint": str(checkpoint), "instruction": "wave"} | PATIENCE | changes
    )
    limits = joint_limits(parameters, urdf=lambda missing: pytest.fail(f"{missing} are not set") if missing else "")
    return parameters, topics_of(parameters, namespace), limits


@pytest.fixture(scope="module")
def played(ros, tiny_checkpoint, robot, bag, tmp_path_factory):
    """The parameters, what the live replay found, and the bag that was recorded meanwhile."""
    folder = tmp_path_factory.mktemp("live")
    settings = {"checkpoint": str(tiny_checkpoint), "instruction": "wave", "use_sim_time": "true"} | PATIENCE
    arguments = [word for name, value in settings.items() for word in ("-p", f"{name}:={value}")]
    node = Process(
        "node.policy_node", folder / "node.log", "--params-file", str(robot), *arguments, namespace=NAMESPACE
    )
    parameters, topics, limits = robot_of(robot, tiny_checkpoint)
    recorder = Recorder()
    recorder.start()
    try:
        episode = play_bag(bag, parameters, topics, limits, "joint_states")
        yield parameters, topics, episode, recorder.write(folder / "recorded")
    finally:
        node.kill()


def test_node_answers_in_bag_time(played):
    """The node answers a bag in the bag's time."""
    parameters, _, episode, _ = played
    assert len(episode.predictions) >= 2
    for prediction in episode.predictions:
        # To the joint states that the bag has, the first of which are shown until the node is active.
        seconds = (prediction.stamp_ns - START) * 1e-9
        assert 0.0 <= seconds < SECONDS
        np.testing.assert_allclose(prediction.state, motion(seconds), atol=1e-5)
        assert 0.0 <= prediction.latency <= SECONDS + parameters.max_chunk_age
    assert episode.recording.times_ns[0] == START and episode.joint_states == SECONDS * 50


def test_node_commands_are_checked(played):
    """The node's commands are checked against the limits."""
    _, _, episode, _ = played
    assert episode.commands.count > 10
    assert episode.commands.violations == {}


def test_a_recorded_bag_reproduces_the_nodes_chunks(played, tiny_checkpoint, tmp_path):
    parameters, _, _, bag = played
    assert_reproduced(bag, parameters, NAMESPACE, tiny_checkpoint, tmp_path, at_least=2)


def test_nothing_is_played_without_a_node(robot, tiny_checkpoint, tmp_path):
    parameters, topics, limits = robot_of(robot, tiny_checkpoint, "/nobody", load_timeout=1.0, input_wait=0.0)
    bag = bag_in("/nobody", tmp_path / "bag", 0.1)
    with pytest.raises(ReplayError, match="/nobody/pi0_policy/status was not received after 1 s: launch it"):
        play_bag(bag, parameters, topics, limits, "joint_states")


def test_refuses_to_play_with_controller(ros, bag, robot, tiny_checkpoint):
    """Nothing is played while a controller subscribes to the commands: a robot would move."""
    parameters, topics, limits = robot_of(robot, tiny_checkpoint, load_timeout=1.0, input_wait=0.0)
    controller = Listener("controller", NAMESPACE)
    controller.subscribe(JointTrajectory, "joint_trajectory_controller/joint_trajectory")
    try:
        with pytest.raises(ReplayError, match="a robot would move"):
            play_bag(bag, parameters, topics, limits, "joint_states")
    finally:
        controller.close()
