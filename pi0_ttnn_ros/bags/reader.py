"""Reads a rosbag2 without ROS: SQLite and MCAP, split, compressed, and damaged ones as far as they go.

What has to be left out never goes unsaid: `Bag.problems` has one line for each, with the remedy.
"""

from __future__ import annotations

import re
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from pi0_ttnn_ros.bag_storage import Channel, StorageError, StorageFile, merge_by_start
from pi0_ttnn_ros.bag_types import BagTypes, TypeProblem
from pi0_ttnn_ros.mcap_file import McapFile
from pi0_ttnn_ros.serialized_messages import serialized_stamp
from pi0_ttnn_ros.sqlite3_file import Sqlite3File

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

METADATA = "metadata.yaml"
STORAGES: dict[str, Callable[[Path, Callable[[str], None]], StorageFile]] = {".mcap": McapFile, ".db3": Sqlite3File}
COMPRESSED = ".zstd"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # a message in CDR begins with two bytes of which the first is 0


class BagError(ValueError):
    """A bag, or a message in it, that cannot be used; the message names bag, topic and remedy in one line."""


@dataclass(frozen=True)
class Topic:
    """One topic of a bag; `count` is the number of its messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class BagMessage:
    """One message as it was recorded.

    time: when it was received, nanoseconds
    stamp: that of its header, nanoseconds; None where the type has no header
    raw: its bytes in CDR
    """

    topic: str
    time: int
    stamp: int | None
    raw: bytes | memoryview
    decoder: Callable[[BagMessage], Any] = field(repr=False, compare=False)

    def decode(self) -> Any:
        """Return the message with the fields that it has in ROS.

        Raises:
            BagError: the bytes are no message of the topic's type. The bag's problems say so too.
        """
        return self.decoder(self)


class Bag:
    """An open bag, see `open_bag`.

    topics: by name
    start, end: receive time of the first and the last message, nanoseconds
    problems: what was left out and why, one line each; grows while messages are read
    """

    def __init__(self, path: Path, files: list[tuple[Path, StorageFile]], problems: list[str]) -> None:
        self.path = path
        self.problems = problems
        self._files = [file for _, file in files if any(channel.count for channel in file.channels)]
        self._types = BagTypes()
        self._serializations: dict[str, str] = {}
        self.topics = self._topics([channel for _, file in files for channel in file.channels])
        if not self._files:
            raise BagError(
                f"{path}: holds no messages; were the topics published, and with a QoS that the recorder takes?"
            )
        self.start = min(file.start for file in self._files)
        self.end = max(file.end for file in self._files)

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Yield the messages of `topics` in order of receive time, without holding more than a few in memory.

        A topic that is missing, empty or cannot be decoded is left out, and `problems` says so.
        """
        wanted = {name: self.topics[name].type for name in dict.fromkeys(topics) if self._usable(name)}
        with_header = {topic for topic, type_name in wanted.items() if self._types.has_header(type_name)}
        last: dict[str, int] = {}
        backwards: Counter[str] = Counter()
        for time, topic, raw in merge_by_start([(file.start, file.messages(wanted)) for file in self._files]):
            try:
                raw = _decompressed(raw)
                stamp = serialized_stamp(raw) if topic in with_header else None
            except (zstd.ZstdError, struct.error) as error:
                self._problem(
                    topic, f"a message is damaged and left out ({error}); copy the bag anew if there is a copy"
                )
                continue
            if stamp is not None:
                backwards[topic] += stamp < last.get(topic, stamp)
                last[topic] = stamp
            yield BagMessage(topic, time, stamp, raw, self._decode)
        for topic in filter(backwards.get, backwards):
            self._problem(
                topic,
                f"{backwards[topic]} header stamps are earlier than the one before; correct the clock of its node",
            )

    def _decode(self, message: BagMessage) -> Any:
        try:
            return self._types.decode(memoryview(message.raw), self.topics[message.topic].type)
        except TypeProblem as error:
            text = f"{error}; was it recorded with another version of the type?"
            self._problem(message.topic, text)
            raise BagError(self._line(message.topic, text)) from error

    def _topics(self, channels: list[Channel]) -> dict[str, Topic]:
        topics: dict[str, Topic] = {}
        for channel in channels:
            topic = topics.get(channel.topic, Topic(channel.topic, channel.type, 0))
            if channel.type != topic.type:
                self._problem(
                    channel.topic,
                    f"has two types, {topic.type} and {channel.type}: the {channel.count} messages of the second are "
                    f"left out; record one publisher of it",
                )
                continue
            topics[channel.topic] = Topic(topic.name, topic.type, topic.count + channel.count)
            self._serializations[channel.topic] = channel.serialization
            try:
                self._types.add(channel)
            except TypeProblem as error:
                self._problem(channel.topic, f"{error}; record with the package of the type sourced")
        return topics

    def _usable(self, topic: str) -> bool:
        if topic not in self.topics:
            self._problem(topic, f"is not in the bag, which has {sorted(self.topics)}; record it or correct the name")
        elif self.topics[topic].count == 0:
            self._problem(topic, "has no messages; was it published, and with a QoS that the recorder takes?")
        elif self._serializations[topic] != "cdr":
            self._problem(topic, f"is serialised as {self._serializations[topic]!r}, not cdr; record it with rosbag2")
        elif self.topics[topic].type not in self._types:
            self._problem(
                topic,
                f"its type {self.topics[topic].type} is not known here and its definition is not in the bag; record as "
                f"MCAP, with the package of the type sourced",
            )
        else:
            return True
        return False

    def _line(self, topic: str, text: str) -> str:
        return f"{self.path}: {topic}: {text}"

    def _problem(self, topic: str, text: str) -> None:
        _note(self.problems, self._line(topic, text))


def _note(problems: list[str], text: str) -> None:
    """Add one line, unless it is there already."""
    line = " ".join(text.split())
    if line not in problems:
        problems.append(line)


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a bag: its folder, or a storage file that stands alone. Compressed files are unpacked into $TMPDIR.

    Raises:
        BagError: there is no bag, or nothing in it can be used.
    """
    problems: list[str] = []
    with ExitStack() as stack:
        files: list[tuple[Path, StorageFile]] = []
        for file in _storage_files(path, problems):

            def report(text: str, file: Path = file) -> None:
                _note(problems, f"{file}: {text}")

            try:
                storage = _open_storage(file, report, stack)
            except (StorageError, OSError) as error:
                report(str(error))
                continue
            stack.callback(storage.close)
            files.append((file, storage))
        if not files:
            raise BagError("; ".join(problems) or _no_bag(path))
        yield Bag(path, files, problems)


def find_bags(path: Path) -> list[Path]:
    """Return the bags that `path` names: itself, or those in the folder.

    Raises:
        BagError: there is none.
    """
    inside = sorted(child for child in path.iterdir() if _is_bag(child)) if path.is_dir() else []
    if _is_bag(path) and not any(child.is_dir() for child in inside):
        return [path]
    if not inside:
        raise BagError(_no_bag(path))
    return inside


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return _storage_suffix(path) in STORAGES
    return path.is_dir() and ((path / METADATA).is_file() or _is_one_bag(_stored_in(path)))


def _is_one_bag(files: list[Path]) -> bool:
    """Return whether the files are the parts of one bag: their names differ in a number at the end only."""
    return len({re.sub(r"(_\d+)?(\.[a-z0-9]+)+$", "", file.name) for file in files}) == 1


def _stored_in(folder: Path) -> list[Path]:
    """Return the storage files in a folder, part 10 after part 9."""
    files = [file for file in folder.iterdir() if file.is_file() and _storage_suffix(file) in STORAGES]
    return sorted(
        files, key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]
    )


def _storage_suffix(file: Path) -> str:
    return (file.with_suffix("") if file.suffix == COMPRESSED else file).suffix


def _no_bag(path: Path) -> str:
    if not path.exists():
        return f"{path}: does not exist; give the folder of a bag, or its .mcap or .db3 file"
    if path.suffix == ".bag":
        return f"{path}: is a bag of ROS 1; convert it with `rosbags-convert --src {path} --dst DIR`"
    return f"{path}: is no bag; give a folder with metadata.yaml, or a .mcap or .db3 file"


def _storage_files(path: Path, problems: list[str]) -> list[Path]:
    """Return the storage files of a bag, by its metadata or, where that is missing or damaged, as they lie there."""
    if path.is_file() and _storage_suffix(path) in STORAGES:
        return [path]
    if not path.is_dir():
        raise BagError(_no_bag(path))
    there = _stored_in(path)
    metadata = path / METADATA
    if not metadata.is_file() and not there:
        raise BagError(_no_bag(path))
    if not metadata.is_file() and not _is_one_bag(there):
        raise BagError(f"{path}: holds several bags; name one of {[file.name for file in there]}")
    remedy = f"`ros2 bag reindex {path}` writes it anew"
    try:
        content = yaml.safe_load(metadata.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        # Old bags have the folder in these names as well.
        named = [path / PurePath(name).name for name in content["relative_file_paths"]]
    except FileNotFoundError:
        _note(problems, f"{metadata}: is missing, the storage files are read without it; {remedy}")
        return there
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        _note(problems, f"{metadata}: is damaged, the storage files are read without it ({error}); {remedy}")
        return there
    for file in named:
        if not file.is_file():
            _note(problems, f"{file}: is missing, though {METADATA} names it, and left out; put it back, or {remedy}")
    return [file for file in named if file.is_file()]


def _open_storage(file: Path, report: Callable[[str], None], stack: ExitStack) -> StorageFile:
    suffix = _storage_suffix(file)
    if suffix not in STORAGES:
        raise StorageError(f"its storage {suffix!r} is not one of {list(STORAGES)}; convert it with `ros2 bag convert`")
    if file.suffix == COMPRESSED:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pi0_bag_"))
        file = _unpacked(file, Path(folder), report)
    return STORAGES[suffix](file, report)


def _unpacked(file: Path, folder: Path, report: Callable[[str], None]) -> Path:
    """Return the decompressed copy of a file; of a damaged one, as much as there is."""
    target = folder / file.stem
    with target.open("wb") as output:
        try:
            with zstd.open(file, "rb") as source:
                shutil.copyfileobj(source, output)
        except (zstd.ZstdError, EOFError) as error:
            report(f"does not decompress to its end ({error}), read up to there; copy it anew if there is a copy")
    return target


def _decompressed(raw: memoryview) -> memoryview:
    return memoryview(zstd.decompress(raw)) if raw[:4] == ZSTD_MAGIC else raw
