"""A bag that a test writes: an arm that moves, its cameras, a command and an instruction, all in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys.stores.ros2_jazzy import (
    builtin_interfaces__msg__Duration as Duration,
)
from rosbags.typesys.stores.ros2_jazzy import (
    builtin_interfaces__msg__Time as Time,
)
from rosbags.typesys.stores.ros2_jazzy import (
    sensor_msgs__msg__Image as Image,
)
from rosbags.typesys.stores.ros2_jazzy import (
    sensor_msgs__msg__JointState as JointState,
)
from rosbags.typesys.stores.ros2_jazzy import (
    std_msgs__msg__Header as Header,
)
from rosbags.typesys.stores.ros2_jazzy import (
    std_msgs__msg__String as String,
)
from rosbags.typesys.stores.ros2_jazzy import (
    trajectory_msgs__msg__JointTrajectory as JointTrajectory,
)
from rosbags.typesys.stores.ros2_jazzy import (
    trajectory_msgs__msg__JointTrajectoryPoint as Point,
)

from pi0_ttnn_core.random_checkpoint import CAMERAS, REST_POSE
from pi0_ttnn_ros.bag_types import jazzy_types

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
    """time: of receipt; `content` is a message or its bytes."""

    time: int
    topic: str
    content: Any


def motion(seconds: np.ndarray | float) -> np.ndarray:
    """Return where the joints are, [..., joints]."""
    return np.array([*REST_POSE, *REST_POSE]) + 0.1 * np.sin(np.asarray(seconds)[..., None] + np.arange(14))


def time_of(stamp: int) -> Time:
    return Time(sec=stamp // SECOND, nanosec=stamp % SECOND)


def image(stamp: int, camera: str, encoding: str = "rgb8") -> Image:
    shade = (stamp // IMAGE_PERIOD + len(camera)) % 256
    data = np.full(48 * 64 * 3, shade, np.uint8)
    return Image(Header(time_of(stamp), camera), 48, 64, encoding, 0, 64 * 3, data)


def messages(seconds: float) -> list[Message]:
    """Return an episode in order of receipt."""
    nothing = np.zeros(0)
    found = [Message(START, "/pi0_policy/instruction", String("wave"))]
    for offset in range(0, int(seconds * SECOND), JOINT_PERIOD):
        stamp, header = START + offset, Header(time_of(START + offset), "")
        joints = JointState(header, JOINTS, motion(offset * 1e-9), nothing, nothing)
        found.append(Message(stamp + DELAY, "/joint_states", joints))
        point = Point(motion(offset * 1e-9 + LEAD), nothing, nothing, nothing, Duration(0, 0))
        command = JointTrajectory(header, JOINTS, [point])
        found.append(Message(stamp + DELAY, "/joint_trajectory_controller/joint_trajectory", command))
    for offset in range(0, int(seconds * SECOND), IMAGE_PERIOD):
        stamp = START + offset
        found += [Message(stamp + 2 * DELAY, f"/{camera}/image", image(stamp, camera)) for camera in CAMERAS]
    return sorted(found, key=lambda message: message.time)


def write_bag(folder: Path, contents: Sequence[Message], storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    types = jazzy_types()
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        connections: dict[str, Any] = {}
        for message in contents:
            kind = message.content.__msgtype__
            if message.topic not in connections:
                connections[message.topic] = writer.add_connection(message.topic, kind, typestore=types)
            writer.write(connections[message.topic], message.time, types.serialize_cdr(message.content, kind))
    return folder
