"""The mock arm of config/mock_arm under ros2_control's own controller manager and controllers, as processes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from pi0_ttnn_ros.aloha.trajectory_follower import Waypoints
from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from support.processes import Listener
from support.reasons import ROS2_CONTROL
from support.waiting import TIMEOUT

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = (ROOT / "config/mock_arm/arm.urdf").read_text(encoding="utf-8")
CONTROLLERS = str(ROOT / "config/mock_arm/controllers.yaml")
JOINTS = ["waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate"]
EVERYTHING = QoSProfile(depth=10_000)
STILL = 1e-4  # rad between two updates; a joint that moves less rests


def require_ros2_control() -> None:
    """Skip the test or module where ros2_control and its controllers are not installed."""
    for package in ("controller_manager", "joint_trajectory_controller", "forward_command_controller"):
        if _prefix(package) is None:
            pytest.skip(ROS2_CONTROL, allow_module_level=True)


def _prefix(package: str) -> Path | None:
    index = pytest.importorskip("ament_index_python.packages", reason=ROS2_CONTROL)
    try:
        return Path(index.get_package_prefix(package))
    except index.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Samples:
    """What a joint_trajectory_controller did over time, by its own clock.

    Attributes:
        times_ns: int64 [samples], stamps of the controller's updates.
        since_start_ns: int64 [samples], times from the start of the trajectory that it followed.
        positions: float64 [samples, joints], where the trajectory was at that moment, rad.
        velocities: float64 [samples, joints], how fast it was, rad/s.
        measured: float64 [samples, joints], where the joints were measured, rad.
    """

    times_ns: np.ndarray
    since_start_ns: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    measured: np.ndarray

    def between(self, start_ns: int, end_ns: int) -> Samples:
        """Return the samples from `start_ns` on and before `end_ns`."""
        chosen = (self.times_ns >= start_ns) & (self.times_ns < end_ns)
        return Samples(*(values[chosen] for values in vars(self).values()))

    @property
    def steps(self) -> np.ndarray:
        """Return by how much the measured joints moved between two samples, float64 [samples - 1, joints], rad."""
        return np.diff(self.measured, axis=0)

    def excess(self, max_velocity: float) -> float:
        """Return by how much a joint moved farther than `max_velocity` (rad/s) allows from one sample to the next, rad.

        What is measured at an update was commanded one update before, so that a late update shows in the next one.
        """
        elapsed = np.diff(self.times_ns)[:, None] * 1e-9
        return float((np.abs(self.steps[1:]) - max_velocity * np.maximum(elapsed[1:], elapsed[:-1])).max())


def rest_ns(samples: Samples) -> int:
    """Return when the last joint came to rest."""
    moving = np.flatnonzero(np.abs(samples.steps).max(axis=1) > STILL)
    return int(samples.times_ns[moving[-1] + 1]) if len(moving) else int(samples.times_ns[0])


class MockArm:
    """The mock arm as others see it, wherever its controllers run.

    Attributes:
        listener: the test's node beside it.
        joint_states: the received joint states.
    """

    def __init__(self, namespace: str) -> None:
        from control_msgs.msg import JointTrajectoryControllerState

        self.namespace = namespace
        self.listener = Listener("arm", namespace)
        self.joint_states = self.listener.subscribe(JointState, "joint_states", EVERYTHING)
        self._states = self.listener.subscribe(
            JointTrajectoryControllerState, "arm_controller/controller_state", EVERYTHING
        )

    def wait_for_controllers(self) -> None:
        """Wait until the controllers run."""
        self.listener.spin_until(lambda: self.joint_states and self._states, label="the controllers")

    def switch(self, activate: list[str], deactivate: list[str]) -> None:
        """Activate and deactivate controllers."""
        from controller_manager_msgs.srv import SwitchController

        request = SwitchController.Request(
            activate_controllers=activate,
            deactivate_controllers=deactivate,
            strictness=SwitchController.Request.STRICT,
            activate_asap=True,
        )
        assert self.listener.call(SwitchController, "controller_manager/switch_controller", request).ok

    @property
    def now_ns(self) -> int:
        """Return the time of the clock that controllers and tests share."""
        return self.listener.node.get_clock().now().nanoseconds

    def positions(self, joints: list[str] = JOINTS) -> np.ndarray:
        """Return the newest measured positions, float64 [joints], rad or m."""
        newest: JointState = self.joint_states[-1]
        return np.array([newest.position[list(newest.name).index(joint)] for joint in joints])

    def spin_to(self, time_ns: int) -> None:
        """Receive until the arm's controller has gone beyond a moment."""
        self.listener.spin_until(
            lambda: nanoseconds(self._states[-1].header.stamp) > time_ns, label="the controller's state"
        )

    def samples(self) -> Samples:
        """Return what the arm's controller has done so far."""
        states: list[Any] = self._states
        return Samples(
            times_ns=np.array([nanoseconds(state.header.stamp) for state in states]),
            since_start_ns=np.array([nanoseconds(state.reference.time_from_start) for state in states]),
            positions=np.array([state.reference.positions for state in states]),
            velocities=np.array([state.reference.velocities for state in states]),
            measured=np.array([state.feedback.positions for state in states]),
        )

    def close(self) -> None:
        """Leave the graph."""
        self.listener.close()


class Controllers(MockArm):
    """ros2_control's controller manager with the mock arm, in a namespace of its own.

    Attributes:
        process: the controller manager.
    """

    def __init__(self, folder: Path, namespace: str) -> None:
        """Start the controller manager and the controllers of the launch file."""
        super().__init__(namespace)
        description = self.listener.node.create_publisher(String, "robot_description", LATCHED)
        description.publish(String(data=DESCRIPTION))
        prefix = _prefix("controller_manager")
        assert prefix is not None
        self._programs = prefix / "lib/controller_manager"
        self._log_file = folder / "controller_manager.log"
        command = [self._programs / "ros2_control_node", "--ros-args", "-r", f"__ns:={namespace}"]
        with self._log_file.open("wb") as output:
            self.process = subprocess.Popen([*command, "--params-file", CONTROLLERS], stdout=output, stderr=output)
        self.spawn("joint_state_broadcaster", "arm_controller", "gripper_controller")
        self.wait_for_controllers()

    def spawn(self, *controllers: str) -> None:
        """Load controllers and activate them."""
        command = [self._programs / "spawner", *controllers, "--param-file", CONTROLLERS]
        spawned = subprocess.run(
            [*command, "--ros-args", "-r", f"__ns:={self.namespace}"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert spawned.returncode == 0, spawned.stdout + spawned.stderr + self.log

    @property
    def log(self) -> str:
        """Return what the controller manager has written so far."""
        return self._log_file.read_text(errors="replace")

    def close(self) -> None:
        """End the controller manager."""
        self.process.kill()
        self.process.wait()
        super().close()


def parabolas(waypoints: Waypoints, times_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and velocities [times, joints] of joints that accelerate evenly from point to point.

    Args:
        waypoints: points with velocities.
        times_ns: int64 [times], counted as the points are.
    """
    assert waypoints.velocities is not None
    row = np.clip(np.searchsorted(waypoints.times_ns, times_ns, side="right") - 1, 0, len(waypoints.times_ns) - 2)
    period = (waypoints.times_ns[row + 1] - waypoints.times_ns[row])[:, None] * 1e-9
    elapsed = (times_ns - waypoints.times_ns[row])[:, None] * 1e-9
    start, end = waypoints.velocities[row], waypoints.velocities[row + 1]
    acceleration = (end - start) / period
    return waypoints.positions[row] + start * elapsed + acceleration * elapsed**2 / 2, start + acceleration * elapsed
