"""Record a run of the demo: a video, an image strip, and the joints' motion against the commanded one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import matplotlib
import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.aloha.joints import JOINT_NAMES, START_POSE
from pi0_ttnn_ros.aloha.sim_robot import JOINT_STATE_RATE
from pi0_ttnn_ros.aloha.trajectory_follower import TrajectoryFollower, trajectory_from_message
from pi0_ttnn_ros.msg import ActionChunk, PolicyStatus
from pi0_ttnn_ros.observation.pixels import image_from_message
from pi0_ttnn_ros.observation.stamps import nanoseconds

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

CAMERAS = ("left_wrist", "top", "right_wrist")
VIDEO_RATE = 15  # Hz, that of the simulated cameras
STRIP_IMAGES = 4
# Deep enough to lose no joint state while an image is being encoded.
ALL_JOINT_STATES = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)


@dataclass
class Recording:
    """What was received while the policy ran.

    Attributes:
        stamps_ns: of the joint states.
        measured: positions [14] at these stamps.
        commanded: positions [14] at these stamps.
        sequences: sequence numbers of the chunks.
        stills: stamp in nanoseconds and image of all cameras side by side, about one a second.
    """

    stamps_ns: list[int] = field(default_factory=list)
    measured: list[np.ndarray] = field(default_factory=list)
    commanded: list[np.ndarray] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    stills: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def joint_states_lost(self) -> int:
        """Return how many joint states are missing between the first and the last, by the robot's rate."""
        if not self.stamps_ns:
            return 0
        expected = round((self.stamps_ns[-1] - self.stamps_ns[0]) * 1e-9 * JOINT_STATE_RATE) + 1
        return max(0, expected - len(self.stamps_ns))

    def chunks_lost(self) -> int:
        """Return how many chunks are missing, by their sequence numbers."""
        return int(np.maximum(np.diff(self.sequences) - 1, 0).sum())

    def distance(self) -> float:
        """Return the distance that all arm joints moved, summed up, rad."""
        if not self.measured:
            return 0.0
        arms = [index for index, name in enumerate(JOINT_NAMES) if not name.endswith("gripper")]
        return float(np.abs(np.diff(np.array(self.measured)[:, arms], axis=0)).sum())


class DemoRecorder(Node):
    """Subscribes to robot and policy, and records between `start` and `stop`.

    Attributes:
        status: newest status of the policy node; None before the first.
        recording: what was received between `start` and `stop`.
    """

    def __init__(self, video: Path, ros_arguments: list[str]) -> None:
        """Take the file of the video, which `start` creates."""
        super().__init__("demo_recorder", cli_args=["--ros-args", *ros_arguments])
        self.status: PolicyStatus | None = None
        self.recording = Recording()
        self._video_file = video
        self._video: Any = None
        self._images: dict[str, np.ndarray] = {}
        self._follower = TrajectoryFollower(START_POSE)
        for camera in CAMERAS:
            topic = f"camera_{camera}/image_raw"
            self.create_subscription(Image, topic, partial(self._on_image, camera), qos_profile_sensor_data)
        self.create_subscription(JointState, "joint_states", self._on_joint_states, ALL_JOINT_STATES)
        self.create_subscription(
            JointTrajectory, "joint_trajectory_controller/joint_trajectory", self._on_trajectory, 10
        )
        self.create_subscription(ActionChunk, "pi0_policy/action_chunk", self._on_chunk, 100)
        self.create_subscription(PolicyStatus, "pi0_policy/status", self._on_status, 10)

    @property
    def sees_robot(self) -> bool:
        """Whether an image of every camera was received."""
        return len(self._images) == len(CAMERAS)

    def start(self) -> None:
        """Start to record; `sees_robot` must hold."""
        video = imageio.get_writer(self._video_file, fps=VIDEO_RATE, macro_block_size=1)
        # The first image starts the encoder, which takes a second: before anything is recorded.
        views = self._views()
        video.append_data(views)
        self.recording.stills.append((self.get_clock().now().nanoseconds, views))
        self._video = video

    def stop(self) -> None:
        """End the recording and the video."""
        if self._video is not None:
            self._video.close()
            self._video = None

    def _on_image(self, camera: str, message: Image) -> None:
        self._images[camera] = image_from_message(message)
        if self._video is None or camera != "top" or not self.sees_robot:
            return
        views = self._views()
        self._video.append_data(views)
        stamp_ns = nanoseconds(message.header.stamp)
        stills = self.recording.stills
        if not stills or stamp_ns - stills[-1][0] > 10**9:
            stills.append((stamp_ns, views))

    def _views(self) -> np.ndarray:
        return np.hstack([self._images[name] for name in CAMERAS])

    def _on_joint_states(self, message: JointState) -> None:
        if self._video is None:
            return
        stamp_ns = nanoseconds(message.header.stamp)
        self.recording.stamps_ns.append(stamp_ns)
        self.recording.measured.append(np.array(message.position))
        self.recording.commanded.append(self._follower.sample(stamp_ns)[0])

    def _on_trajectory(self, message: JointTrajectory) -> None:
        # At the time it was made for: messages wait while the video is being encoded.
        stamp_ns = nanoseconds(message.header.stamp)
        self._follower.replace(trajectory_from_message(message, JOINT_NAMES, stamp_ns), stamp_ns)

    def _on_chunk(self, message: ActionChunk) -> None:
        if self._video is not None:
            self.recording.sequences.append(message.sequence)

    def _on_status(self, message: PolicyStatus) -> None:
        self.status = message


def write_strip(recording: Recording, file: Path) -> None:
    """Write images from across the run, the latest at the bottom, with the cameras side by side."""
    stills = recording.stills
    chosen = [stills[round(i)] for i in np.linspace(0, len(stills) - 1, min(STRIP_IMAGES, len(stills)))]
    imageio.imwrite(file, np.vstack([views for _, views in chosen]))


def write_plot(recording: Recording, file: Path) -> None:
    """Plot the measured positions of every joint against the commanded ones."""
    seconds = (np.array(recording.stamps_ns) - recording.stamps_ns[0]) * 1e-9
    measured, commanded = np.array(recording.measured), np.array(recording.commanded)
    figure, rows = plt.subplots(2, 7, figsize=(21, 6), sharex=True, layout="constrained")
    for joint, axes in enumerate(rows.flat):
        axes.plot(seconds, commanded[:, joint], color="tab:orange", linewidth=2.5, alpha=0.7, label="commanded")
        axes.plot(seconds, measured[:, joint], color="tab:blue", linewidth=1.0, label="measured")
        _label(axes, JOINT_NAMES, joint)
    figure.legend(*rows.flat[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.suptitle("Joint positions of the simulated ALOHA robot, commanded by PI0 with random weights")
    figure.savefig(file, dpi=80)
    plt.close(figure)


def _label(axes: plt.Axes, names: Sequence[str], joint: int) -> None:
    axes.set_title(names[joint])
    axes.set_ylabel("opening (0 to 1)" if names[joint].endswith("gripper") else "rad")
    if joint >= len(names) // 2:
        axes.set_xlabel("s")
    axes.grid(alpha=0.3)
