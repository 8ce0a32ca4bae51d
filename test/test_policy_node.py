"""The policy node as a process over DDS, with a robot that the test plays."""

from __future__ import annotations

import signal

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from pi0_ttnn_ros.msg import ActionChunk, PolicyStatus
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.random_checkpoint import CAMERAS, REST_POSE
from ros_helpers import Listener, Process

NAMESPACE = "/test_policy_node"
JOINTS = [f"{side}_{number}" for side in ("left", "right") for number in range(7)]
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
MAX_VELOCITY = 1.5
NOTHING = {"input_wait": 5.0}  # where nothing will come
POSITION_MAX = 0.45  # below where some actions want to go


class Robot(Listener):
    """Publishes images and joint states at 20 Hz while `alive`, and keeps what the policy publishes."""

    def __init__(self, namespace: str = NAMESPACE) -> None:
        super().__init__("robot", namespace)
        self.alive = True
        self.joint_names = list(JOINTS)
        self.positions = [*REST_POSE, *REST_POSE]
        self.encoding = "rgb8"
        self._images = {
            name: self.node.create_publisher(Image, f"{name}/image", qos_profile_sensor_data) for name in CAMERAS
        }
        self._compressed = self.node.create_publisher(
            CompressedImage, "base_0_rgb/image/compressed", qos_profile_sensor_data
        )
        self.node.create_publisher(String, "text", 1)
        self._joint_states = self.node.create_publisher(JointState, "joint_states", qos_profile_sensor_data)
        self.trajectories = self.hear(JointTrajectory, "joint_trajectory_controller/joint_trajectory")
        self.chunks = self.hear(ActionChunk, "pi0_policy/action_chunk")
        self.statuses = self.hear(PolicyStatus, "pi0_policy/status", LATCHED)
        self.diagnostics = self.hear(DiagnosticArray, "/diagnostics")
        self.node.create_timer(0.05, self._publish)

    @property
    def status(self) -> PolicyStatus:
        return self.statuses[-1]

    @property
    def motions(self) -> list[JointTrajectory]:
        """What is more than a hold."""
        return [trajectory for trajectory in self.trajectories if len(trajectory.points) > 1]

    @property
    def holds(self) -> bool:
        return bool(self.trajectories) and len(self.trajectories[-1].points) == 1

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, "pi0_policy/change_state", request).success

    def set_parameters(self, **values):
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(
            SetParameters, "pi0_policy/set_parameters", SetParameters.Request(parameters=parameters)
        ).results

    def wait_for_chunks(self, count: int = 1) -> None:
        wanted = len(self.chunks) + count
        self.spin_until(lambda: len(self.chunks) >= wanted, what=f"{count} chunks: {self.status}")

    def _publish(self) -> None:
        if not self.alive:
            return
        stamp = self.node.get_clock().now().to_msg()
        pixels = np.full((48, 64, 3), 90, np.uint8)
        for publisher in self._images.values():
            message = Image(height=48, width=64, encoding=self.encoding, step=192, data=pixels.tobytes())
            message.header.stamp = stamp
            publisher.publish(message)
        compressed = CompressedImage(format="jpeg", data=cv2.imencode(".jpg", pixels)[1].tobytes())
        compressed.header.stamp = stamp
        self._compressed.publish(compressed)
        message = JointState(name=self.joint_names, position=self.positions)
        message.header.stamp = stamp
        self._joint_states.publish(message)


def good_parameters(checkpoint) -> dict:
    return {
        "checkpoint": str(checkpoint),
        "backend": "torch",
        "num_steps": 2,
        "instruction": "wave",
        "inference_rate": 20.0,
        "time_step": 0.02,
        "cameras": list(CAMERAS),
        "camera_topics": [f"{name}/image" for name in CAMERAS],
        "joint_names": JOINTS,
        "position_min": [-2.0] * 14,
        "position_max": [POSITION_MAX] * 14,
        "max_velocity": [MAX_VELOCITY] * 14,
        # Where the cores are busy, discovery and the test's own robot may be slow; only some tests wait for these.
        "input_wait": 30.0,
        "image_timeout": 10.0,
        "joint_state_timeout": 10.0,
    }


@pytest.fixture(scope="module")
def context():
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture(scope="module")
def process(context, tmp_path_factory):
    process = Process("policy_node", tmp_path_factory.mktemp("log") / "policy_node.log", namespace=NAMESPACE)
    yield process
    process.kill()


@pytest.fixture
def robot(process):
    robot = Robot()
    robot.spin_until(lambda: robot.statuses, what="the node's first status")
    yield robot
    robot.alive = True
    states = {"active": (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)}
    states["inactive"] = (Transition.TRANSITION_CLEANUP,)
    for transition in states.get(robot.status.lifecycle_state, ()):
        assert robot.change_state(transition)
    robot.close()


def activate(robot: Robot, checkpoint, **changes) -> None:
    assert all(result.successful for result in robot.set_parameters(**good_parameters(checkpoint) | changes))
    assert robot.change_state(Transition.TRANSITION_CONFIGURE), robot.status.last_error
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)


def points_of(trajectory: JointTrajectory) -> tuple[np.ndarray, np.ndarray]:
    """Return times in seconds and positions."""
    times = [point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in trajectory.points]
    return np.array(times), np.array([point.positions for point in trajectory.points])


def test_the_policy_commands_the_robot_within_its_limits(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.spin_until(lambda: len(robot.motions) >= 3, what="three motions")
    for trajectory in robot.motions:
        times, positions = points_of(trajectory)
        assert trajectory.joint_names == JOINTS
        assert 0 < times[0] <= 0.02 and (np.diff(times) > 0).all()
        assert not np.any(trajectory.points[-1].velocities)
        assert positions.min() >= -2.0 and positions[-1].max() <= POSITION_MAX + 1e-9
        speeds = np.abs(np.diff(positions, axis=0)) / np.diff(times)[:, None]
        assert speeds.max() <= MAX_VELOCITY * 1.001
    # The gripper rests at 0.5, above its limit: the first motion leads back, no faster than allowed.
    first = points_of(robot.motions[0])[1][0]
    np.testing.assert_allclose(first, robot.positions, atol=MAX_VELOCITY * 0.021)


def test_a_chunk_says_what_it_was_inferred_from(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(3)
    chunk = robot.chunks[-1]
    assert (chunk.instruction, chunk.backend, chunk.horizon, chunk.time_step) == ("wave", "torch", 50, 0.02)
    assert chunk.joint_names == JOINTS and len(chunk.actions) == 50 * 14
    assert chunk.inference_time > 0
    assert [later.sequence for later in robot.chunks] == list(range(len(robot.chunks)))
    stamps = [(chunk.header.stamp.sec, chunk.header.stamp.nanosec) for chunk in robot.chunks]
    assert stamps == sorted(set(stamps))


def test_status_and_diagnostics_tell_the_state(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(3)
    robot.spin_until(lambda: robot.status.rate > 0, what="a status with a rate")
    status = robot.status
    assert (status.lifecycle_state, status.backend, status.instruction) == ("active", "torch", "wave")
    assert status.checkpoint == str(tiny_checkpoint) and status.device.startswith("CPU")
    assert 0 < status.latency_p50 <= status.latency_p95 <= status.latency_max
    assert not status.stale_inputs and not status.last_error
    # Diagnostics come on a topic of their own: the newest heard may be older than the status.
    stamp = status.header.stamp
    robot.spin_until(
        lambda: any(heard.header.stamp == stamp for heard in robot.diagnostics), what="the diagnostics of that status"
    )
    inference = next(heard for heard in robot.diagnostics if heard.header.stamp == stamp).status[0]
    assert inference.name == "pi0_policy: inference" and inference.message == "active"


def test_deactivate_ends_with_a_hold(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(2)
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    robot.spin_until(lambda: robot.holds, what="a hold")
    _, before = points_of(robot.trajectories[-2])
    _, hold = points_of(robot.trajectories[-1])
    # Where the robot was commanded to be: between the points of the last motion.
    assert (hold[0] >= before.min(axis=0) - 0.04).all() and (hold[0] <= before.max(axis=0) + 0.04).all()
    count, statuses = len(robot.trajectories), len(robot.statuses)
    robot.spin_until(lambda: len(robot.statuses) >= statuses + 2, what="two more statuses")
    assert len(robot.trajectories) == count


def test_stale_inputs_are_named_and_the_robot_holds_until_they_return(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint, image_timeout=1.0, joint_state_timeout=1.0)
    robot.wait_for_chunks(2)
    robot.alive = False
    robot.spin_until(lambda: robot.holds, what="a hold")
    everything = sorted(["joint_states", *CAMERAS])
    robot.spin_until(lambda: robot.status.stale_inputs == everything, what="a status that names them")
    assert robot.status.lifecycle_state == "active"
    robot.alive = True
    robot.wait_for_chunks(2)
    robot.spin_until(lambda: not robot.status.stale_inputs, what="a status without them")


def test_joint_states_with_nan_are_refused_until_they_are_right(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(1)
    robot.positions[3] = float("nan")
    robot.spin_until(lambda: "not finite" in robot.status.last_error and robot.holds, what="an error and a hold")
    robot.positions[3] = 0.0
    robot.wait_for_chunks(1)
    robot.spin_until(lambda: not robot.status.last_error, what="a status without error")


def test_permuted_and_extra_joints_are_sorted_out(robot, tiny_checkpoint):
    robot.joint_names = ["extra", *reversed(JOINTS)]
    robot.positions = [9.0, *reversed(robot.positions)]
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(1)
    robot.spin_until(lambda: robot.motions, what="a motion")
    first = points_of(robot.motions[0])[1][0]
    np.testing.assert_allclose(first, [*REST_POSE, *REST_POSE], atol=MAX_VELOCITY * 0.021)


@pytest.mark.parametrize("durability", [DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE])
def test_an_instruction_reaches_the_policy(robot, tiny_checkpoint, durability):
    publisher = robot.node.create_publisher(
        String, "pi0_policy/instruction", QoSProfile(depth=1, durability=durability)
    )
    latched = durability == DurabilityPolicy.TRANSIENT_LOCAL
    if latched:  # before the node listens
        publisher.publish(String(data="open the drawer"))
    activate(robot, tiny_checkpoint, instruction="")
    if not latched:
        robot.spin_until(publisher.get_subscription_count, what="a subscription")
        publisher.publish(String(data="open the drawer"))
    robot.wait_for_chunks(1)
    assert robot.chunks[-1].instruction == "open the drawer"
    robot.node.destroy_publisher(publisher)


def test_without_an_instruction_the_robot_does_not_move(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint, instruction="")
    statuses = len(robot.statuses)
    robot.spin_until(lambda: len(robot.statuses) >= statuses + 3, what="three statuses")
    assert robot.status.stale_inputs == ["instruction"]
    assert not robot.trajectories


def test_compressed_images_are_taken(robot, tiny_checkpoint):
    topics = [f"{name}/image" for name in CAMERAS]
    activate(robot, tiny_checkpoint, camera_topics=["base_0_rgb/image/compressed", *topics[1:]])
    robot.wait_for_chunks(1)


def test_one_camera_of_three_is_enough(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint, cameras=["base_0_rgb"], camera_topics=["base_0_rgb/image"])
    robot.wait_for_chunks(1)


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"checkpoint": ""}, "checkpoint is not set"),
        ({"checkpoint": "/nowhere"}, "/nowhere is no folder"),
        ({"backend": "abacus"}, "unknown backend 'abacus'"),
        ({"joint_names": [*JOINTS[:13], "tail"]}, "joint states lack ['tail']"),
        ({"joint_names": [*JOINTS[:13], JOINTS[0]]}, f"joint_names names ['{JOINTS[0]}'] more than once"),
        ({"position_min": [0.0] * 13}, "position_min has 13 entries, joint_names 14"),
        ({"max_velocity": [0.0] * 14}, f"max_velocity of joint '{JOINTS[0]}'"),
        ({"cameras": ["head", "left_wrist_0_rgb", "right_wrist_0_rgb"]}, "cameras names ['head']"),
        ({"camera_topics": ["a", "a", "b"]}, "camera_topics names ['a'] more than once"),
        ({"camera_topics": ["a", "b"]}, "camera_topics has 2 entries"),
        (NOTHING | {"cameras": ["base_0_rgb"], "camera_topics": ["nothing"]}, f"nobody publishes {NAMESPACE}/nothing"),
        (NOTHING | {"cameras": ["base_0_rgb"], "camera_topics": ["text"]}, "carries ['std_msgs/msg/String'], expected"),
        (NOTHING | {"joint_state_topic": "nothing"}, f"joint states: nobody publishes {NAMESPACE}/nothing"),
    ],
)
def test_configure_refuses_and_names_the_culprit(robot, tiny_checkpoint, changes, culprit):
    robot.set_parameters(**good_parameters(tiny_checkpoint) | {"joint_state_topic": "joint_states"} | changes)
    assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
    robot.spin_until(lambda: culprit in robot.status.last_error, what=f"{culprit}: {robot.status}")
    assert robot.status.lifecycle_state == "unconfigured"
    robot.set_parameters(joint_state_topic="joint_states")


def test_configure_refuses_joints_that_the_checkpoint_has_not(robot, tiny_checkpoint):
    limits = {name: [1.0] * 13 for name in ("position_max", "max_velocity")} | {"position_min": [0.0] * 13}
    robot.set_parameters(**good_parameters(tiny_checkpoint) | {"joint_names": JOINTS[:13]} | limits)
    assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
    robot.spin_until(lambda: "state has 14 values" in robot.status.last_error, what="the error")


def test_configure_refuses_an_image_encoding_that_it_cannot_read(robot, tiny_checkpoint):
    robot.encoding = "16UC1"
    robot.set_parameters(**good_parameters(tiny_checkpoint))
    assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
    robot.spin_until(lambda: "'16UC1'" in robot.status.last_error, what="the error")


def test_parameters_are_refused_while_the_node_is_configured(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    (result,) = robot.set_parameters(time_step=0.05)
    assert not result.successful and "clean up the node first" in result.reason
    (result,) = robot.set_parameters(seed=-1)
    assert not result.successful


def test_the_policy_can_be_configured_again(robot, tiny_checkpoint):
    for _ in range(3):
        activate(robot, tiny_checkpoint)
        robot.wait_for_chunks(1)
        assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
        assert robot.change_state(Transition.TRANSITION_CLEANUP)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_with_a_hold(context, tiny_checkpoint, tmp_path, number):
    arguments = [
        argument
        for name, value in good_parameters(tiny_checkpoint).items()
        for argument in ("-p", f"{name}:={value if not isinstance(value, str) else repr(value)}")
    ]
    process = Process("policy_node", tmp_path / "log", *arguments, namespace=NAMESPACE + "_signal")
    robot = Robot(NAMESPACE + "_signal")
    try:
        robot.spin_until(lambda: robot.statuses, what="the node's first status")
        assert robot.change_state(Transition.TRANSITION_CONFIGURE), process.log
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
        robot.wait_for_chunks(2)
        assert process.stop(number) == 0
        robot.spin_until(lambda: robot.holds, what="a hold")
        assert "Traceback" not in process.log
    finally:
        process.kill()
        robot.close()


def test_a_parameter_of_the_wrong_type_is_one_clear_line(context, tmp_path):
    process = Process("policy_node", tmp_path / "log", "-p", "time_step:=fast", namespace=NAMESPACE + "_type")
    assert process.process.wait(30) == 1
    assert "time_step" in process.log and "Traceback" not in process.log
