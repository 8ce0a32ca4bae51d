"""Reads a rosbag2 without ROS: SQLite and MCAP, split, compressed, and damaged ones as far as they go.

What has to be left out never goes unsaid: `Bag.problems` has one line for each, with the remedy.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi0_ttnn_ros.bags import zstd
from pi0_ttnn_ros.bags.files import decompressed, not_a_bag, note_problem, open_storage, storage_files
from pi0_ttnn_ros.bags.message_types import BagTypes, TypeProblem
from pi0_ttnn_ros.bags.storage import BagError, Channel, StorageError, StorageFile, merge_by_start
from pi0_ttnn_ros.observation.stamps import serialized_stamp


@dataclass(frozen=True)
class Topic:
    """One topic of a bag; `count` is the number of its messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class BagMessage:
    """One message as it was recorded.

    time_ns: when it was received, nanoseconds
    stamp_ns: that of its header, nanoseconds; None where the type has no header
    raw: its bytes in CDR
    """

    topic: str
    time_ns: int
    stamp_ns: int | None
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
    start_ns, end_ns: receive time of the first and the last message, nanoseconds
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
        self.start_ns = min(file.start_ns for file in self._files)
        self.end_ns = max(file.end_ns for file in self._files)

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Yield the messages of `topics` in order of receive time, without holding more than a few in memory.

        A topic that is missing, empty or cannot be decoded is left out, and `problems` says so.
        """
        wanted = {name: self.topics[name].type for name in dict.fromkeys(topics) if self._usable(name)}
        with_header = {topic for topic, type_name in wanted.items() if self._types.has_header(type_name)}
        last_stamp_ns: dict[str, int] = {}
        backwards: Counter[str] = Counter()
        for time_ns, topic, raw in merge_by_start([(file.start_ns, file.messages(wanted)) for file in self._files]):
            try:
                raw = decompressed(raw)
                stamp_ns = serialized_stamp(raw) if topic in with_header else None
            except (zstd.ZstdError, struct.error) as error:
                self._problem(
                    topic, f"a message is damaged and left out ({error}); copy the bag anew if there is a copy"
                )
                continue
            if stamp_ns is not None:
                backwards[topic] += stamp_ns < last_stamp_ns.get(topic, stamp_ns)
                last_stamp_ns[topic] = stamp_ns
            yield BagMessage(topic, time_ns, stamp_ns, raw, self._decode)
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
        note_problem(self.problems, self._line(topic, text))


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a bag: its folder, or a storage file that stands alone. Compressed files are unpacked into $TMPDIR.

    Raises:
        BagError: there is no bag, or nothing in it can be used.
    """
    problems: list[str] = []
    with ExitStack() as stack:
        files: list[tuple[Path, StorageFile]] = []
        for file in storage_files(path, problems):

            def report(text: str, file: Path = file) -> None:
                note_problem(problems, f"{file}: {text}")

            try:
                storage = open_storage(file, report, stack)
            except (StorageError, OSError) as error:
                report(str(error))
                continue
            stack.callback(storage.close)
            files.append((file, storage))
        if not files:
            raise BagError("; ".join(problems) or not_a_bag(path))
        yield Bag(path, files, problems)
