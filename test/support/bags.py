"""Bags for tests: one in closed form, variants of a whole one, broken ones, and MCAP written record by record."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS, REST_POSE
from pi0_ttnn_ros.bags.writer import BagWriter, duration_message, header, joint_state, message, qos, serialized

SECOND = 10**9
START = 1_790_000_000 * SECOND
JOINTS = [f"{side}_{number}" for side in ("left", "right") for number in range(7)]
JOINT_PERIOD, IMAGE_PERIOD = 20_000_000, 40_000_000
DELAY = 3_000_000  # from stamp to receipt
LEAD = 0.1  # seconds from a command to the motion

CAMERA_SECTIONS = "\n    ".join(f"{name}: {{topic: {name}/image}}" for name in CAMERAS)
JOINT_LIMITS = "\n      ".join(
    f"{name}: {{min_position: -3.0, max_position: 3.0, max_velocity: 1.5, max_acceleration: 10.0}}" for name in JOINTS
)
PARAMETERS = f"""
/**/pi0_policy:
  ros__parameters:
    cameras: [{", ".join(CAMERAS)}]
    {CAMERA_SECTIONS}
    joint_names: [{", ".join(JOINTS)}]
    num_steps: 2
    time_step: 0.02
    inference_rate: 5.0
    joint_limits:
      {JOINT_LIMITS}
"""

# Thresholds that random weights pass.
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

MAGIC = b"\x89MCAP0\r\n"
Entry = tuple[int, str, bytes]  # receive time, topic, message


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        time: of receipt, nanoseconds.
        topic: its full name.
        content: the message, as `bags.writer.message` makes it.
    """

    time: int
    topic: str
    content: Any


def motion(seconds: np.ndarray | float) -> np.ndarray:
    """Return the joint positions at some times: [...] to [..., joints]."""
    return np.array([*REST_POSE, *REST_POSE]) + 0.1 * np.sin(np.asarray(seconds)[..., None] + np.arange(14))


def image(stamp_ns: int, camera: str) -> Any:
    """Return an image of one colour, which stamp and camera decide."""
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
    """Return a trajectory of one point, to be reached at its stamp."""
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
    """Write the messages as a bag and return its folder."""
    topics = {entry.topic: (entry.content.__msgtype__, qos(10)) for entry in contents}
    with BagWriter(folder, topics) as bag:
        for entry in contents:
            bag.write(entry.topic, entry.time, serialized(entry.content))
    return folder


def entries(path: Path) -> list[Entry]:
    """Return all that rosbags reads in a whole bag, in order of time."""
    with Reader(path) as reader:
        return sorted(((time, c.topic, bytes(raw)) for c, time, raw in reader.messages()), key=lambda entry: entry[0])


def rewrite(
    source: Path,
    target: Path,
    storage: str = "mcap",
    compression: str = "none",
    only: Iterable[Entry] | None = None,
) -> Path:
    """Write the messages of `source`, or `only` those given, to a new bag, and return its storage file."""
    with Reader(source) as reader:
        types = {c.topic: (c.msgtype, c.msgdef.data, c.digest) for c in reader.connections}
    writer = Writer(target, version=9, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connections = {
            topic: writer.add_connection(topic, name, msgdef=definition, rihs01=digest)
            for topic, (name, definition, digest) in types.items()
        }
        for time, topic, raw in entries(source) if only is None else only:
            writer.write(connections[topic], time, raw)
    return storage_file(target)


def storage_file(bag: Path) -> Path:
    """Return the one storage file of a bag."""
    (file,) = (file for file in bag.iterdir() if file.name != "metadata.yaml")
    return file


def split(source: Path, target: Path, storage: str = "mcap") -> list[Path]:
    """Write `source` as one bag of three files, as `ros2 bag record` splits it, and return the files."""
    whole = entries(source)
    third = len(whole) // 3
    target.mkdir()
    files = []
    for number, part in enumerate((whole[:third], whole[third : 2 * third], whole[2 * third :])):
        folder = target / f"part{number}"
        file = rewrite(source, folder, storage, only=part)
        files.append(file.rename(target / f"{target.name}_{number}{file.suffix}"))
        metadata = yaml.safe_load((folder / "metadata.yaml").read_text())
        shutil.rmtree(folder)
    metadata["rosbag2_bagfile_information"]["relative_file_paths"] = [file.name for file in files]
    (target / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return files


def record(opcode: int, content: bytes) -> bytes:
    """Return one record of an MCAP file (https://mcap.dev/spec)."""
    return struct.pack("<BQ", opcode, len(content)) + content


def text(value: str) -> bytes:
    """Return a string as MCAP stores it."""
    return struct.pack("<I", len(value)) + value.encode()


def lz4_mcap(messages: Iterable[Entry], types: dict[str, str], per_chunk: int = 50) -> bytes:
    """Return an MCAP file of chunks compressed with lz4, with checksums and without index."""
    content = loose_mcap(messages, types)
    begin, end = len(MAGIC) + 9 + content[9], content.index(record(15, bytes(4)))
    records, position = [], begin
    while position < end:
        size = 9 + struct.unpack_from("<Q", content, position + 1)[0]
        records.append(content[position : position + size])
        position += size
    chunks = b""
    for first in range(0, len(records), per_chunk):
        plain = b"".join(records[first : first + per_chunk])
        packed = lz4.frame.compress(plain)
        head = struct.pack("<QQQI", 0, 0, len(plain), zlib.crc32(plain)) + text("lz4") + struct.pack("<Q", len(packed))
        chunks += record(6, head + packed)
    return content[:begin] + chunks + content[end:]


def loose_mcap(messages: Iterable[Entry], types: dict[str, str], encoding: str = "cdr") -> bytes:
    """Return an MCAP file without chunks, index and message definitions; rosbag2's preset `fastwrite` has no chunks."""
    content = MAGIC + record(1, text("ros2") + text("test"))
    numbers = {topic: number for number, topic in enumerate(types, start=1)}
    for topic, number in numbers.items():
        content += record(3, struct.pack("<H", number) + text(types[topic]) + text("") + text(""))
        content += record(4, struct.pack("<HH", number, number) + text(topic) + text(encoding) + text(""))
    for time, topic, raw in messages:
        content += record(5, struct.pack("<HIQQ", numbers[topic], 0, time, time) + raw)
    footer = record(15, bytes(4)) + record(2, bytes(20))
    return content + footer + MAGIC
