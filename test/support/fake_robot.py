"""A fake robot: its sensors, the subscriptions of its controller, and what must hold of everything it receives."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from pi0_ttnn_ros.msg import ActionChunk, PolicyStatus
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS, REST_POSE
from pi0_ttnn_ros.aloha.trajectory_follower import TrajectoryFollower, Waypoints
from pi0_ttnn_ros.execution.chunk_executor import FROZEN_NS, GRID_NS, SMOOTHING_WINDOW
from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.parameters.parameters import LIVE
from pi0_ttnn_ros.rclpy_utils.messages import time_message
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from support.processes import Listener

JOINTS = [f"{side}_{number}" for side in ("left", "right") for number in range(7)]
POSITION_MIN = -2.0
POSITION_MAX = 0.45  # below where some actions want to go, and where the gripper rests
MAX_VELOCITY = 1.5
MAX_ACCELERATION = 10.0
LIMITS = {
    "min_position": POSITION_MIN,
    "max_position": POSITION_MAX,
    "max_velocity": MAX_VELOCITY,
    "max_acceleration": MAX_ACCELERATION,
}
MAX_CHUNK_AGE = 2.0
PERIOD = 0.05  # seconds
EVERYTHING = 1000  # messages


class FakeRobot:
    """Publishes images and joint states at 20 Hz, and keeps what the policy publishes.

    Attributes:
        listener: the node that publishes and receives.
        trajectories: the received commands.
        chunks: the received action chunks.
        statuses: the received statuses.
        diagnostics: the received diagnostics.
        alive: whether anything is published.
        joint_names: the joints of the joint states.
        positions: float [joints], rad, m or opening. Where the robot is; it does not follow its commands.
        encoding: of the images.
        compressed: file in the compressed images.
        silent: names of the cameras, or "joint_states", that are not published.
        frozen: for a camera whose images repeat an old stamp, that stamp.
        noisy: names of the cameras, or "joint_states", whose messages differ a little.
        slow: for a camera, the number of periods between two images.
        sizes: for a camera, height and width of its images.
        clock: simulated time in nanoseconds, which advances with each period; None: the system's time.
        clock_runs: whether the simulated time advances.
        image_stamps: for each camera the stamps of all published images, nanoseconds.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.listener = Listener("robot", namespace)
        self.node = self.listener.node
        self.reset()
        self._periods = 0
        self.image_stamps: dict[str, list[int]] = {name: [] for name in CAMERAS}
        self._images = {
            name: self.node.create_publisher(Image, f"{name}/image", qos_profile_sensor_data) for name in CAMERAS
        }
        self._compressed = self.node.create_publisher(
            CompressedImage, "base_0_rgb/image/compressed", qos_profile_sensor_data
        )
        self.node.create_publisher(String, "text", 1)
        self._instruction = self.node.create_publisher(String, "pi0_policy/instruction", 10)
        self._clock = self.node.create_publisher(Clock, "/clock", 10)
        self._joint_states = self.node.create_publisher(JointState, "joint_states", qos_profile_sensor_data)
        # Queues in which nothing is lost while the machine keeps this process waiting.
        self.trajectories = self.listener.subscribe(
            JointTrajectory, "joint_trajectory_controller/joint_trajectory", EVERYTHING
        )
        self.chunks = self.listener.subscribe(ActionChunk, "pi0_policy/action_chunk", EVERYTHING)
        self.statuses = self.listener.subscribe(PolicyStatus, "pi0_policy/status", LATCHED)
        self.diagnostics = self.listener.subscribe(DiagnosticArray, "/diagnostics")
        self.node.create_timer(PERIOD, self._publish)

    def reset(self) -> None:
        """Remove all faults."""
        self.alive = True
        self.joint_names = list(JOINTS)
        self.positions = [*REST_POSE, *REST_POSE]
        self.encoding = "rgb8"
        self.compressed = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
        self.silent: set[str] = set()
        self.frozen: dict[str, Any] = {}
        self.noisy: set[str] = set()
        self.slow: dict[str, int] = {}
        self.sizes = dict.fromkeys(CAMERAS, (48, 64))
        self.clock: int | None = None
        self.clock_runs = True

    def close(self) -> None:
        """Leave the graph."""
        self.listener.close()

    def spin_until(self, condition: Callable[[], object], label: str) -> None:
        """Play the robot until `condition` holds; the test fails when it never does."""
        self.listener.spin_until(condition, label=label)

    @property
    def status(self) -> PolicyStatus:
        """Return the newest status."""
        return self.statuses[-1]

    def instruct(self, text: str) -> None:
        """Publish an instruction."""
        _configured.pop(self.namespace, None)  # the next test wants the instruction of the parameters
        self.spin_until(self._instruction.get_subscription_count, label="a subscription")
        self._instruction.publish(String(data=text))

    def change_state(self, transition: int) -> bool:
        """Request a lifecycle transition and return whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.listener.call(ChangeState, "pi0_policy/change_state", request).success

    def set_parameters(self, **values):
        """Set parameters, given as in a YAML file, in this order; return the results."""
        # An empty list does not say of what it is one; here it is always one of names.
        flat = flat_parameters(values)
        types = {name: Parameter.Type.STRING_ARRAY for name, value in flat.items() if value == []}
        parameters = [Parameter(name, types.get(name), value).to_parameter_msg() for name, value in flat.items()]
        return self.listener.call(
            SetParameters, "pi0_policy/set_parameters", SetParameters.Request(parameters=parameters)
        ).results

    def trigger(self, name: str) -> None:
        """Call ~/stop or ~/reset."""
        assert self.listener.call(Trigger, f"pi0_policy/{name}", Trigger.Request()).success

    def enable(self, enabled: bool) -> None:
        """Call ~/enable."""
        assert self.listener.call(SetBool, "pi0_policy/enable", SetBool.Request(data=enabled)).success

    def wait_for_chunks(self, count: int = 1) -> None:
        """Wait for some more chunks."""
        wanted = len(self.chunks) + count
        self.spin_until(lambda: len(self.chunks) >= wanted, label=f"{count} chunks: {self.status}")

    def wait_for_motion(self) -> None:
        """Wait until the newest command moves the robot."""
        self.spin_until(lambda: self.trajectories and not is_hold(self.trajectories[-1]), label="a motion")

    def wait_for_hold(self) -> None:
        """Wait until the newest command is a hold."""
        self.spin_until(lambda: is_hold(self.trajectories[-1]), label="a hold")

    def wait_for_status(self, wanted: Callable[[PolicyStatus], object], label: str) -> None:
        """Wait for a status for which `wanted` holds; it may already be there."""
        self.spin_until(lambda: wanted(self.status), label=f"{label}: {self.status}")

    def receives_nothing_for(self, statuses: int) -> bool:
        """Return whether no trajectory is received while some statuses are."""
        before, count = len(self.trajectories), len(self.statuses)
        self.spin_until(lambda: len(self.statuses) >= count + statuses, label="statuses")
        return len(self.trajectories) == before

    def receives_no_motion_since(self, start_ns: int, statuses: int) -> bool:
        """Return whether no motion that starts after `start_ns` is received until some statuses are."""
        count = len(self.statuses)
        self.spin_until(lambda: len(self.statuses) >= count + statuses, label="statuses")
        motions = (trajectory for trajectory in self.trajectories if not is_hold(trajectory))
        return all(nanoseconds(motion.header.stamp) < start_ns for motion in motions)

    def _publish(self) -> None:
        stamp = self.node.get_clock().now().to_msg()
        if self.clock is not None:
            self.clock += round(PERIOD * 1e9) if self.clock_runs else 0
            stamp = time_message(self.clock)
            if self.clock_runs:
                self._clock.publish(Clock(clock=stamp))
        self._periods += 1
        if not self.alive:
            return
        for name, publisher in self._images.items():
            if name in self.silent or self._periods % self.slow.get(name, 1):
                continue
            height, width = self.sizes[name]
            message = Image(height=height, width=width, encoding=self.encoding, step=3 * width)
            shade = 90 + (name in self.noisy) * (self._periods % 2)
            message.data.frombytes(bytes([shade]) * (3 * height * width))
            message.header.stamp = self.frozen.get(name, stamp)
            self.image_stamps[name].append(nanoseconds(message.header.stamp))
            publisher.publish(message)
        compressed = CompressedImage(format="jpeg", data=self.compressed)
        compressed.header.stamp = stamp
        self._compressed.publish(compressed)
        if "joint_states" not in self.silent:
            noise = 1e-6 * ("joint_states" in self.noisy) * (self._periods % 2)
            message = JointState(name=self.joint_names, position=[each + noise for each in self.positions])
            message.header.stamp = stamp
            self._joint_states.publish(message)


def good_parameters(checkpoint) -> dict:
    """Return parameters with which the node drives the fake robot."""
    return {
        "checkpoint": str(checkpoint),
        "backend": "torch",
        "num_steps": 2,
        "instruction": "wave",
        "start_enabled": True,
        "restart": "automatic",
        "state_folder": "",
        "inference_rate": 20.0,
        "inference_timeout": 60.0,
        "strategy": "asynchronous",
        "time_step": 0.02,
        "cameras": list(CAMERAS),
        **{name: {"topic": f"{name}/image"} for name in CAMERAS},
        "joint_names": JOINTS,
        "joint_limits": {name: dict(LIMITS) for name in JOINTS},
        "max_chunk_age": MAX_CHUNK_AGE,
        # The fake robot does not follow its commands.
        "max_jump_time": 5.0,
        "max_tracking_time": 0.0,
        "repeated_input_timeout": 0.0,
        "sync_tolerance": 1.0,
        "input_wait": 30.0,
        # On a busy machine the fake robot is slow as well. Tests of stale inputs set their own timeouts.
        "image_timeout": 10.0,
        "joint_state_timeout": 10.0,
        "controllers": ["joint_trajectory_controller"],
        "joint_trajectory_controller": {"type": "joint_trajectory"},
        "heartbeat_timeout": 0.0,
        "instruction_timeout": 0.0,
        "speed_scaling": 1.0,
        "dry_run": False,
        "introspection": False,
        "use_sim_time": False,
    }


def ros_arguments(parameters: dict) -> list[str]:
    """Return parameters as a node's command line takes them: in YAML."""
    flat = flat_parameters(parameters)
    return [word for name, value in flat.items() for word in ("-p", f"{name}:={json.dumps(value)}")]


def flat_parameters(nested: dict, prefix: str = "") -> dict:
    """Return parameters, nested as in a YAML file, by their full names."""
    flat = {}
    for name, value in nested.items():
        flat |= flat_parameters(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def named_sections_only(parameters: dict) -> dict:
    """Return the parameters without sections that no list names."""
    named = {*parameters["cameras"], *parameters["controllers"], "joint_limits"}
    return {name: value for name, value in parameters.items() if name in named or not isinstance(value, dict)}


# The parameters of each configured node, by namespace: a test with the same ones does not load the policy again.
_configured: dict[str, dict] = {}


def activate(robot: FakeRobot, checkpoint, **changes) -> None:
    """Take the node to active with `good_parameters` but for `changes`; configure it again only if they differ."""
    wanted = named_sections_only(good_parameters(checkpoint) | changes)
    fixed = {name: value for name, value in wanted.items() if name not in LIVE}
    if _configured.get(robot.namespace) != fixed:
        bring_down(robot)
        results = robot.set_parameters(**wanted)
        assert all(result.successful for result in results), results
        assert robot.change_state(Transition.TRANSITION_CONFIGURE), robot.status.last_error
        _configured[robot.namespace] = fixed
    live = {name: value for name, value in wanted.items() if name in LIVE}
    assert all(result.successful for result in robot.set_parameters(**live))
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    if wanted["start_enabled"]:
        robot.enable(True)  # a test before may have disabled it
    robot.wait_for_status(lambda status: status.lifecycle_state == "active", "the status of the active node")


def bring_up(robot: FakeRobot) -> None:
    """Wait for a node that has its parameters already, and take it to active."""
    robot.spin_until(lambda: robot.statuses, "the node's first status")
    assert robot.change_state(Transition.TRANSITION_CONFIGURE), robot.status.last_error
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)


def deactivate(robot: FakeRobot) -> None:
    """Leave the node inactive or unconfigured and the robot without faults, whatever a test did."""
    robot.reset()
    robot.wait_for_status(lambda status: status.lifecycle_state, "a status")
    robot.change_state(Transition.TRANSITION_DEACTIVATE)


def bring_down(robot: FakeRobot) -> None:
    """Leave the node unconfigured and without sections of parameters, whatever state it is in."""
    _configured.pop(robot.namespace, None)
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        robot.change_state(transition)  # one that the state does not allow is refused
    robot.set_parameters(cameras=[], joint_names=[], controllers=[])


def assert_holds_and_resumes(
    robot: FakeRobot, fail: Callable[[], object], mend: Callable[[], object], sign: Callable[[PolicyStatus], object]
) -> None:
    """Move, fail, hold with a status for which `sign` holds, mend, and move again without a restart."""
    robot.wait_for_chunks(2)
    robot.wait_for_motion()
    fail()
    robot.wait_for_status(sign, "a status that tells")
    robot.wait_for_hold()
    assert robot.status.lifecycle_state == "active"
    mend()
    robot.wait_for_chunks(2)
    robot.wait_for_status(lambda status: not status.stale_inputs and not status.last_error, "a status without trouble")
    robot.wait_for_motion()


def error_of(status: PolicyStatus) -> str:
    """Return the error of a status, but for a chunk that came too late: that is up to the machine."""
    return "" if "old when it was ready" in status.last_error else status.last_error


def points_of(trajectory: JointTrajectory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times in nanoseconds from the stamp, positions and velocities."""
    times = np.array([nanoseconds(point.time_from_start) for point in trajectory.points])
    positions = np.array([point.positions for point in trajectory.points])
    return times, positions, np.array([point.velocities for point in trajectory.points])


def is_hold(trajectory: JointTrajectory) -> bool:
    """Return whether the trajectory commands the robot to stay at rest."""
    return not any(any(point.velocities) for point in trajectory.points)


def assert_within_limits(trajectories: list[JointTrajectory]) -> None:
    """Assert that each trajectory is finite, within the limits, ends at rest and continues the one before."""
    for trajectory in trajectories:
        times, positions, velocities = points_of(trajectory)
        assert trajectory.joint_names == JOINTS
        assert times[0] == 0 and (np.diff(times) > 0).all()
        assert np.isfinite(positions).all() and np.isfinite(velocities).all()
        assert not velocities[-1].any()
        assert positions.min() >= POSITION_MIN - 1e-9
        assert positions[-1].max() <= max(POSITION_MAX, positions[0].max()) + 1e-9
        assert np.abs(velocities).max() <= MAX_VELOCITY * 1.001
        accelerations = np.diff(velocities, axis=0) / (np.diff(times) * 1e-9)[:, None]
        assert np.abs(accelerations).max() <= MAX_ACCELERATION * 1.001
    for before, after in itertools.pairwise(trajectories):
        elapsed = nanoseconds(after.header.stamp) - nanoseconds(before.header.stamp)
        commanded = _follower(before).sample(nanoseconds(after.header.stamp))
        # From rest the next motion starts where the robot is; others may have moved it.
        if 0 < elapsed <= FROZEN_NS and commanded[1].any():
            np.testing.assert_allclose(after.points[0].positions, commanded[0], atol=1e-6)
            np.testing.assert_allclose(after.points[0].velocities, commanded[1], atol=1e-6)


def assert_no_old_chunks(robot: FakeRobot) -> None:
    """Assert that no motion outlasts the newest observation by more than `max_chunk_age` and the time to stop."""
    stamps = sorted(nanoseconds(chunk.header.stamp) for chunk in robot.chunks)
    stop = FROZEN_NS + round((MAX_VELOCITY / MAX_ACCELERATION + (SMOOTHING_WINDOW + 1) * GRID_NS * 1e-9) * 1e9)
    for trajectory in robot.trajectories:
        times, _, velocities = points_of(trajectory)
        moving = np.flatnonzero(velocities.any(axis=1))
        if len(moving) and stamps and stamps[0] <= nanoseconds(trajectory.header.stamp):
            start = nanoseconds(trajectory.header.stamp)
            newest = max(stamp_ns for stamp_ns in stamps if stamp_ns <= start)
            assert start + times[moving[-1]] <= newest + MAX_CHUNK_AGE * 1e9 + stop


def _follower(trajectory: JointTrajectory) -> TrajectoryFollower:
    """Return a controller that follows the trajectory from its beginning."""
    times, positions, velocities = points_of(trajectory)
    start = nanoseconds(trajectory.header.stamp)
    following = TrajectoryFollower(positions[0])
    following.replace(Waypoints(start, times, positions, velocities), start - 1)
    return following
