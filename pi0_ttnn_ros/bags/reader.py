"""Read a rosbag2 without ROS: SQLite or MCAP, split, compressed or damaged.

A damaged bag is read as far as possible; `Bag.problems` has a line, with the remedy, for everything that is left out.
That is why bags are not read with rosbags' `AnyReader`, which refuses a file that was cut off or has no index. The
types and the deserialisation are those of rosbags.
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
    """One topic of a bag.

    Attributes:
        count: number of messages.
    """

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class BagMessage:
    """One message as it was recorded.

    Attributes:
        time_ns: receive time.
        stamp_ns: header stamp; None: the type has no header.
        raw: the message in CDR.
        decoder: deserialises the message.
    """

    topic: str
    time_ns: int
    stamp_ns: int | None
    raw: bytes | memoryview
    decoder: Callable[[BagMessage], Any] = field(repr=False, compare=False)

    def decode(self) -> Any:
        """Return the message with its ROS fields.

        Raises:
            BagError: the bytes are not a message of the topic's type. The bag's problems have the same line.
        """
        return self.decoder(self)


class Bag:
    """An open bag, see `open_bag`.

    Attributes:
        path: folder, or storage file.
        topics: by name.
        start_ns: receive time of the first message.
        end_ns: receive time of the last message.
        problems: what was left out, why, and the remedy; a line each. Grows while messages are read.
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
                f"{path}: holds no messages; were the topics published, with a QoS compatible with the recorder's?"
            )
        self.start_ns = min(file.start_ns for file in self._files)
        self.end_ns = max(file.end_ns for file in self._files)

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Yield the messages of `topics` in order of receive time, holding only a few in memory.

        A topic that is missing, empty or of an unknown type is left out and reported in `problems`.
        """
        wanted = {name: self.topics[name].type for name in dict.fromkeys(topics) if self._usable(name)}
        with_header = {topic for topic, type_name in wanted.items() if self._types.has_header(type_name)}
        last_stamp_ns: dict[str, int] = {}
        backwards: Counter[str] = Counter()
        for time_ns, topic, raw in merge_by_start([(file.start_ns, file.messages(wanted)) for file in self._files]):
            try:
                raw = decompressed(raw)
                stamp_ns = serialized_stamp(raw) if topic in with_header else None
            except (zstd.ZstdError, struct.error, IndexError) as error:
                self._problem(
                    topic, f"a message is damaged and left out ({error}); copy the bag again if there is another copy"
                )
                continue
            if stamp_ns is not None:
                backwards[topic] += stamp_ns < last_stamp_ns.get(topic, stamp_ns)
                last_stamp_ns[topic] = stamp_ns
            yield BagMessage(topic, time_ns, stamp_ns, raw, self._decode)
        for topic in filter(backwards.get, backwards):
            self._problem(
                topic,
                f"{backwards[topic]} header stamps are earlier than the one before; correct the clock of its publisher",
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
                    f"left out; record one publisher",
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
            self._problem(topic, "has no messages; was it published, with a QoS compatible with the recorder's?")
        elif self._serializations[topic] != "cdr":
            self._problem(topic, f"is serialised as {self._serializations[topic]!r}, not cdr; record it with rosbag2")
        elif self.topics[topic].type not in self._types:
            self._problem(
                topic,
                f"its type {self.topics[topic].type} is unknown and its definition is not in the bag; record as MCAP, "
                f"with the package of the type sourced",
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
    """Open a bag: its folder, or a single storage file. Compressed files are unpacked into $TMPDIR.

    Raises:
        BagError: `path` is not a bag, or nothing in it can be used.
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
