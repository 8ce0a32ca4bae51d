"""A bag that a test writes: an arm that moves, its cameras, a command and an instruction, all in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS, REST_POSE
from pi0_ttnn_ros.bags.writer import BagWriter, duration_message, header, joint_state, message, qos, serialized

SECOND = 10**9
START = 1_790_000_000 * SECOND
JOINTS = [f"{side}_{number}" for side in ("left", "right") for number in range(7)]
JOINT_PERIOD, IMAGE_PERIOD = 20_000_000, 40_000_000
DELAY = 3_000_000  # from stamp to receipt
LEAD = 0.1  # seconds by which the command is ahead of the motion

PARAMETERS = f"""
/**/pi0_policy:
  ros__parameters:
    cameras: [{", ".join(CAMERAS)}]
    camera_topics: [{", ".join(f"{name}/image" for name in CAMERAS)}]
    joint_names: [{", ".join(JOINTS)}]
    num_steps: 2
    time_step: 0.02
    inference_rate: 5.0
    position_min: {[-3.0] * 14}
    position_max: {[3.0] * 14}
    max_velocity: {[1.5] * 14}
    max_acceleration: {[10.0] * 14}
"""

# Random weights pass nothing but this.
LENIENT = """
    replay:
      max_mae: 1000.0
      max_normalized_mae: 1000.0
      max_hold_ratio: 1.0e+9
      max_jerk_ratio: 1.0e+9
      max_jump_violations: 1.0
      max_position_violations: 1.0
      max_velocity_violations: 1.0
      max_acceleration_violations: 1.0
      min_gripper_agreement: 0.0
      min_gripper_change_agreement: 0.0
      max_latency_p95: 1000.0
"""


@dataclass(frozen=True)
class Message:
    """One message; time: of receipt."""

    time: int
    topic: str
    content: Any


def motion(seconds: np.ndarray | float) -> np.ndarray:
    """Return where the joints are, [..., joints]."""
    return np.array([*REST_POSE, *REST_POSE]) + 0.1 * np.sin(np.asarray(seconds)[..., None] + np.arange(14))


def image(stamp_ns: int, camera: str) -> Any:
    shade = (stamp_ns // IMAGE_PERIOD + len(camera)) % 256
    return message(
        "sensor_msgs/msg/Image",
        header=header(stamp_ns, camera),
        height=48,
        width=64,
        encoding="rgb8",
        is_bigendian=0,
        step=64 * 3,
        data=np.full(48 * 64 * 3, shade, np.uint8),
    )


def command(stamp_ns: int, positions: np.ndarray) -> Any:
    nothing = np.zeros(0)
    point = message(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=positions,
        velocities=nothing,
        accelerations=nothing,
        effort=nothing,
        time_from_start=duration_message(0),
    )
    return message("trajectory_msgs/msg/JointTrajectory", header=header(stamp_ns), joint_names=JOINTS, points=[point])


def messages(seconds: float) -> list[Message]:
    """Return an episode in order of receipt."""
    found = [Message(START, "/pi0_policy/instruction", message("std_msgs/msg/String", data="wave"))]
    for offset in range(0, int(seconds * SECOND), JOINT_PERIOD):
        stamp_ns = START + offset
        joints = joint_state(stamp_ns, JOINTS, motion(offset * 1e-9), np.zeros(0))
        found.append(Message(stamp_ns + DELAY, "/joint_states", joints))
        commanded = command(stamp_ns, motion(offset * 1e-9 + LEAD))
        found.append(Message(stamp_ns + DELAY, "/joint_trajectory_controller/joint_trajectory", commanded))
    for offset in range(0, int(seconds * SECOND), IMAGE_PERIOD):
        stamp_ns = START + offset
        found += [Message(stamp_ns + 2 * DELAY, f"/{camera}/image", image(stamp_ns, camera)) for camera in CAMERAS]
    return sorted(found, key=lambda entry: entry.time)


def write_bag(folder: Path, contents: Sequence[Message]) -> Path:
    topics = {entry.topic: (entry.content.__msgtype__, qos(10)) for entry in contents}
    with BagWriter(folder, topics) as bag:
        for entry in contents:
            bag.write(entry.topic, entry.time, serialized(entry.content))
    return folder
