"""The simulated robot as a process over DDS."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
if importlib.util.find_spec("gym_aloha") is None:
    pytest.skip("gym-aloha is not installed", allow_module_level=True)

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState

from pi0_ttnn_ros.aloha.joints import JOINT_NAMES, START_POSE
from pi0_ttnn_ros.observation.pixels import image_from_message
from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.rclpy_utils.messages import trajectory_message
from support.processes import Listener, Process

from trajectory_msgs.msg import JointTrajectory  # isort: skip

NAMESPACE = "/test_sim_robot"


class Operator(Listener):
    """Sees the robot and commands it."""

    def __init__(self) -> None:
        super().__init__("operator", NAMESPACE)
        self.joint_states = self.subscribe(JointState, "joint_states", qos_profile_sensor_data)
        self.images = {
            name: self.subscribe(Image, f"camera_{name}/image_raw", qos_profile_sensor_data)
            for name in ("top", "left_wrist", "right_wrist")
        }
        self._commands = self.node.create_publisher(JointTrajectory, "joint_trajectory_controller/joint_trajectory", 10)
        self.spin_until(lambda: self.joint_states and self._commands.get_subscription_count(), label="the robot")

    @property
    def positions(self) -> np.ndarray:
        return np.array(self.joint_states[-1].position)

    def command(self, positions, names=JOINT_NAMES, seconds=1.0) -> None:
        times = np.array([round(seconds * 1e9)])
        points = np.array(positions)[None]
        self._commands.publish(trajectory_message(0, names, times, points, np.zeros_like(points)))


@pytest.fixture
def process(ros, tmp_path):
    process = Process("aloha.sim_robot", tmp_path / "log", namespace=NAMESPACE)
    yield process
    process.kill()


@pytest.fixture
def operator(process):
    operator = Operator()
    yield operator
    operator.close()


def test_publishes_images_and_joint_states(operator):
    """The robot publishes its joint states in order of time, and an image of each camera."""
    operator.spin_until(lambda: len(operator.joint_states) > 100, label="joint states")
    assert list(operator.joint_states[-1].name) == list(JOINT_NAMES)
    np.testing.assert_allclose(operator.positions, START_POSE, atol=0.05)
    stamps = [nanoseconds(message.header.stamp) for message in operator.joint_states]
    assert (np.diff(stamps) > 0).all()
    for images in operator.images.values():
        operator.spin_until(lambda images=images: images, label="an image of every camera")
        pixels = image_from_message(images[-1])
        assert pixels.shape == (240, 320, 3)
        assert pixels.std() > 10  # a picture, not one colour


def test_follows_a_trajectory(operator):
    """The robot moves to the commanded positions, whatever the order of the joints, and stays there."""
    target = START_POSE + np.tile([0.2, 0.1, -0.1, 0.2, 0.1, 0.2, 0.4], 2)
    names = list(reversed(JOINT_NAMES))
    operator.command(target[::-1], names)
    operator.spin_until(lambda: np.abs(operator.positions - target).max() < 0.05, label=f"{target}")
    count = len(operator.joint_states)
    operator.spin_until(lambda: len(operator.joint_states) > count + 50, label="another second")
    assert np.abs(operator.positions - target).max() < 0.05


@pytest.mark.parametrize(
    ("names", "culprit"),
    [(["tail", *JOINT_NAMES[1:]], "unknown ['tail'], missing ['left_waist']"), (JOINT_NAMES[:13], "13 of 14")],
)
def test_refuses_wrong_joint_names(operator, process, names, culprit):
    """A trajectory with unknown or missing joints is refused as ros2_control's controller refuses it."""
    before = operator.positions
    operator.command(np.ones(len(names)), names)
    operator.spin_until(lambda: culprit in process.log, label=culprit)
    assert np.abs(operator.positions - before).max() < 0.05


def test_stops_without_traceback(operator, process):
    """SIGINT ends the robot with exit status 0."""
    assert process.stop() == 0
    assert "Traceback" not in process.log
