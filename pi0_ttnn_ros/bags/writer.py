"""Write a rosbag2 without ROS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

from pi0_ttnn_ros.bags.message_types import jazzy_types
from pi0_ttnn_ros.bags.storage import BagError

STORAGES = ("mcap", "sqlite3")
_TYPES = jazzy_types()
_FOREVER = QosTime(9223372036, 854775807)


def qos(depth: int, reliable: bool = True, latched: bool = False) -> Qos:
    """Return a publisher's quality of service."""
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )


class BagWriter:
    """Writes a bag: `with BagWriter(...) as bag: bag.write(...)`."""

    def __init__(self, path: Path, topics: Mapping[str, tuple[str, Qos]], storage: str = "mcap") -> None:
        """Create the bag with these topics: type and quality of service by name. `storage` is one of STORAGES.

        Raises:
            BagError: `path` exists already.
        """
        try:
            self._writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
            self._writer.open()
        except WriterError as error:
            raise BagError(f"{path} exists already: remove it or name another folder") from error
        self._connections: dict[str, Connection] = {
            topic: self._writer.add_connection(topic, type_name, typestore=_TYPES, offered_qos_profiles=[offered])
            for topic, (type_name, offered) in topics.items()
        }

    def write(self, topic: str, time_ns: int, raw: bytes | memoryview) -> None:
        """Add a message, as `serialized` returns it, with its receive time."""
        self._writer.write(self._connections[topic], time_ns, raw)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def message(type_name: str, **fields: Any) -> Any:
    """Return a message of a type of ROS 2 Jazzy or of this package; numeric sequences are numpy arrays."""
    return _TYPES.types[type_name](**fields)


def header(stamp_ns: int, frame_id: str = "") -> Any:
    """Return a std_msgs/Header."""
    return message("std_msgs/msg/Header", stamp=time_message(stamp_ns), frame_id=frame_id)


def time_message(stamp_ns: int) -> Any:
    """Return a builtin_interfaces/Time."""
    return message("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def duration_message(duration_ns: int) -> Any:
    """Return a builtin_interfaces/Duration."""
    return message("builtin_interfaces/msg/Duration", sec=duration_ns // 10**9, nanosec=duration_ns % 10**9)


def serialized(content: Any) -> memoryview:
    """Return a message in CDR."""
    return _TYPES.serialize_cdr(content, content.__msgtype__)


def joint_state(stamp_ns: int, names: list[str], positions: np.ndarray, velocities: np.ndarray) -> Any:
    """Return a sensor_msgs/JointState; positions and velocities are float64 [joints], rad or m and per second."""
    return message(
        "sensor_msgs/msg/JointState",
        header=header(stamp_ns),
        name=names,
        position=positions,
        velocity=velocities,
        effort=np.zeros(0),
    )


def compressed_image(stamp_ns: int, jpeg: np.ndarray, frame_id: str) -> Any:
    """Return a sensor_msgs/CompressedImage; `jpeg` is the uint8 [bytes] of the file."""
    return message(
        "sensor_msgs/msg/CompressedImage",
        header=header(stamp_ns, frame_id),
        format="rgb8; jpeg compressed bgr8",
        data=jpeg,
    )
