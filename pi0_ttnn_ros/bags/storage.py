"""What the storage files of a rosbag2 have in common, and messages of several sources in one order of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

# Receive time in nanoseconds, topic, serialised message.
StoredMessage = tuple[int, str, memoryview]


class StorageError(ValueError):
    """A storage file of which nothing can be used; the message says why and what to do."""


@dataclass(frozen=True)
class Channel:
    """One topic in one storage file.

    serialization: "cdr" for what ROS 2 records
    definition: the type's definition as the file holds it, empty where it holds none
    definition_format: "ros2msg" or "ros2idl"
    """

    topic: str
    type: str
    serialization: str
    count: int
    definition: str = ""
    definition_format: str = ""


class StorageFile(Protocol):
    """One open storage file. Times are receive times in nanoseconds; `end_ns` is that of the last message."""

    channels: list[Channel]
    start_ns: int
    end_ns: int

    def messages(self, wanted: Mapping[str, str]) -> Iterator[StoredMessage]:
        """Yield the messages of the wanted topics, which have the types given, in order of time."""

    def close(self) -> None: ...


def merge_by_start(sources: Sequence[tuple[int, Iterable[StoredMessage]]]) -> Iterator[StoredMessage]:
    """Merge sources, each a start and messages from then on in order of time.

    A source is begun only when its start is reached, so that no more of them are in memory than overlap.
    """
    running: list[tuple[int, int, StoredMessage, Iterator[StoredMessage]]] = []

    def advance(number: int, messages: Iterator[StoredMessage]) -> None:
        message = next(messages, None)
        if message is not None:
            heapq.heappush(running, (message[0], number, message, messages))

    for number, (start_ns, source) in enumerate(sorted(sources, key=itemgetter(0))):
        while running and running[0][0] < start_ns:
            _, earlier, message, messages = heapq.heappop(running)
            yield message
            advance(earlier, messages)
        advance(number, iter(source))
    while running:
        _, earlier, message, messages = heapq.heappop(running)
        yield message
        advance(earlier, messages)


class BagError(ValueError):
    """A bag, or a message in it, that cannot be used; the message names bag, topic and remedy in one line."""
