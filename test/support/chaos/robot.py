"""The robot over DDS: its sensors, which faults can falsify, and the subscriptions of its controllers."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any

import cv2
import numpy as np
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from rclpy.subscription import Subscription
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Empty, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS
from pi0_ttnn_ros.rclpy_utils.messages import time_message
from support.chaos.arm import ENCODER_NOISE, Arm, Sensors
from support.chaos.checker import ROUNDING, Breach, Checker
from support.chaos.clock import NodeClock
from support.chaos.episode import COMPRESSED, PERIOD, Episode
from support.chaos.motion import motion_of
from support.fake_robot import JOINTS, MAX_VELOCITY
from support.processes import Listener

EVERYTHING = 1000  # messages: nothing is lost while the machine keeps this process waiting
HEIGHT, WIDTH = 48, 64
TICKS_PER_IMAGE, TICKS_PER_HEARTBEAT = 3, 5
SETTLING_NS = 300_000_000  # after a jump of the clock, or a pause of the node
JUMP = 0.1 * MAX_VELOCITY  # rad: the arm stops when the clock jumps, and the node's newest plan is of shortly before
STALE = 0.4 * MAX_VELOCITY  # rad: a plan that is followed, and one from where the last one began
PAUSE_NS = 100_000_000
OLD_TIME_NS = 500_000_000  # stamps further ahead than this are of the time before a jump


class Robot:
    """Publishes joint states at 50 Hz, images at 17 Hz and a heartbeat at 10 Hz, and obeys what the node commands.

    Attributes:
        arms: the joints of each controller.
        sensors: what is measured of them.
        silent: names of cameras, "joint_states" or "heartbeat", that are not published.
        edits: for a camera or "joint_states", a function that makes of each message what is published: a message, or
            bytes in place of its serialized form.
        last_ns: for each name, the system's time of what was published last.
        sent_ns: system's time of the newest command that moved the robot; 0 before the first.
        moving_since_ns: since when such commands have come without a pause of PAUSE_NS.
    """

    def __init__(self, episode: Episode, clock: NodeClock, positions: np.ndarray, listener: Listener) -> None:
        self.arms = {
            name: Arm(name, [JOINTS.index(joint) for joint in joints], positions[[JOINTS.index(j) for j in joints]])
            for name, (_, joints) in episode.controllers.items()
        }
        self.sensors = Sensors(list(self.arms.values()), episode.lag, episode.droop)
        self.silent: set[str] = set()
        self.edits: dict[str, Callable[[Any], Any]] = {}
        self.last_ns: dict[str, int] = dict.fromkeys([*CAMERAS, "joint_states", "heartbeat"], time.time_ns())
        self.sent_ns = self.moving_since_ns = 0
        self._checker: Checker | None = None
        self._clock = clock
        self._node = listener.node
        self._ticks = 0
        self._encoder_noise = np.random.default_rng(0)
        self._noise = Random(0).randbytes(10 * HEIGHT * WIDTH * 3)
        self._publishers = {name: self._image_publisher(name) for name in CAMERAS}
        self._publishers["joint_states"] = self._sensor(JointState, "joint_states")
        self._publishers["heartbeat"] = self._node.create_publisher(Empty, "pi0_policy/heartbeat", 1)
        self._clock_publisher = self._node.create_publisher(Clock, "/clock", 1)
        self._kinds = {name: kind for name, (kind, _) in episode.controllers.items()}
        self._last_number: dict[str, int] = {}
        self._controllers: dict[str, Subscription] = {}
        self.sensors.sample(time.time_ns(), clock.now_ns())
        self._node.create_timer(PERIOD, self._tick)

    def be_judged_by(self, checker: Checker) -> None:
        """Start the controllers; `checker` judges what they receive."""
        self._checker = checker
        for name in self.arms:
            self.start_controller(name)

    def start_controller(self, name: str) -> None:
        """Subscribe to a controller's commands."""
        if self._kinds[name] == "position":
            message_type, topic, callback = Float64MultiArray, f"{name}/commands", self._on_position
        else:
            message_type, topic, callback = JointTrajectory, f"{name}/joint_trajectory", self._on_trajectory
        arm = self.arms[name]

        def on_message(message: Any, about: dict[str, int]) -> None:
            callback(arm, message, about)

        subscription = self._node.create_subscription(message_type, topic, on_message, EVERYTHING)  # type: ignore[arg-type]
        self._controllers[name] = subscription
        self._last_number.pop(name, None)

    def stop_controller(self, name: str) -> None:
        """Remove the subscription; the arm stays where it is."""
        self._node.destroy_subscription(self._controllers.pop(name))
        self.stay(self.arms[name])

    def stay(self, arm: Arm) -> None:
        """Let an arm stop where it is, at once."""
        arm.stay(arm.state(self._clock.now_ns())[0])

    def measured(self) -> np.ndarray:
        """Return the true positions of all joints now."""
        return self.sensors.sample(time.time_ns(), self._clock.now_ns())

    def moves(self, since_ns: int) -> bool:
        """Return whether a motion was commanded since a system's time."""
        return self.sent_ns > since_ns

    def publish_clock(self) -> None:
        """Publish the simulated time."""
        if self._clock.simulated and self._clock.running:
            self._clock_publisher.publish(Clock(clock=time_message(self._clock.now_ns())))

    def _tick(self) -> None:
        self.publish_clock()
        now_ns = time.time_ns()
        stamp = time_message(self._clock.at(now_ns))
        noise = self._encoder_noise.uniform(-ENCODER_NOISE, ENCODER_NOISE, len(JOINTS))
        states = JointState(name=JOINTS, position=(self.measured() + noise).tolist())
        states.header.stamp = stamp
        if "joint_states" not in self.silent | self.edits.keys():
            self.sensors.published_ns = now_ns
        self._publish("joint_states", states, now_ns)
        if self._ticks % TICKS_PER_IMAGE == 0:
            for camera in CAMERAS:
                image = self._image(camera)
                image.header.stamp = stamp
                self._publish(camera, image, now_ns)
        if self._ticks % TICKS_PER_HEARTBEAT == 0:
            self._publish("heartbeat", Empty(), now_ns)
        self._ticks += 1

    def _publish(self, name: str, message: Any, now_ns: int) -> None:
        if name in self.silent:
            return
        edited = self.edits[name](message) if name in self.edits else message
        if edited is not None:
            self._publishers[name].publish(edited)
        self.last_ns[name] = now_ns

    def _image(self, camera: str) -> Image | CompressedImage:
        size = HEIGHT * WIDTH * 3
        start = self._ticks * 7 % (len(self._noise) - size)  # no two images in a row are the same
        pixels = self._noise[start : start + size]
        if camera == COMPRESSED:
            return CompressedImage(format="jpeg", data=jpeg(np.frombuffer(pixels, np.uint8).reshape(HEIGHT, WIDTH, 3)))
        message = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
        message.data.frombytes(pixels)
        return message

    def _on_trajectory(self, arm: Arm, message: JointTrajectory, about: dict[str, int]) -> None:
        assert self._checker is not None
        sent_ns = about["source_timestamp"]
        time_ns = self._clock.at(sent_ns)
        expected = [JOINTS[joint] for joint in arm.joints]
        if message.joint_names != expected:
            raise Breach(f"{arm.name}: a trajectory of joints {message.joint_names}, not {expected}")
        motion = motion_of(message, time_ns)
        if self._clock.jumped_ns and motion.start_ns > time_ns + OLD_TIME_NS:
            return  # of the time before the jump: a controller waits for it to begin, until the next one
        if len(motion.times_ns) and 0 <= motion.start_ns <= time_ns - int(motion.times_ns[-1]):
            return  # a controller refuses what lies in the past as a whole
        if self._clock.jumped_ns and sent_ns < self._clock.jumped_ns + SETTLING_NS:
            # The node's clock is up to a tick behind, and its first stamps cannot be before 0.
            arm.allow(JUMP, sent_ns + 1)
        if self._clock.simulated and sent_ns < self._checker.paused_until_ns + SETTLING_NS:
            # A node that was paused plans by an old /clock until the next tick.
            arm.allow(STALE, sent_ns + 1)
        self._checker.trajectory(arm, motion, sent_ns, time_ns)
        if motion.moving_until_ns > time_ns:
            self._note_motion(sent_ns)
        arm.follow(motion)

    def _on_position(self, arm: Arm, message: Float64MultiArray, about: dict[str, int]) -> None:
        assert self._checker is not None
        positions = np.array(message.data, np.float64)
        number = about.get("publication_sequence_number") or 0
        before = self._last_number.get(arm.name, number - 1)
        self._last_number[arm.name] = number
        here = arm.state(0)[0]
        self._checker.position(arm, positions, about["source_timestamp"], lost=max(0, number - before - 1))
        if np.abs(positions - here).max() > ROUNDING:
            self._note_motion(about["source_timestamp"])
        if not arm.blocked:
            arm.stay(positions)

    def _note_motion(self, sent_ns: int) -> None:
        if sent_ns > self.sent_ns + PAUSE_NS:
            self.moving_since_ns = sent_ns
        self.sent_ns = max(self.sent_ns, sent_ns)

    def _image_publisher(self, camera: str) -> Publisher:
        if camera == COMPRESSED:
            return self._sensor(CompressedImage, f"{camera}/image/compressed")
        return self._sensor(Image, f"{camera}/image")

    def _sensor(self, message_type: type, topic: str) -> Publisher:
        return self._node.create_publisher(message_type, topic, qos_profile_sensor_data)


def jpeg(pixels: np.ndarray) -> bytes:
    """Return an image [height, width, 3] as JPEG."""
    return cv2.imencode(".jpg", pixels)[1].tobytes()
