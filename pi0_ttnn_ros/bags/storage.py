"""The interface of a rosbag2's storage files, and messages of several sources in one order of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

# Receive time (ns), topic, serialised message.
StoredMessage = tuple[int, str, memoryview]
# More is not unpacked at once, bytes: a file may say anything. A recorder's chunks have some megabytes.
MAX_UNPACKED_SIZE = 1 << 28


class StorageError(ValueError):
    """Nothing in a storage file can be used; the message says why, and the remedy."""


@dataclass(frozen=True)
class Channel:
    """One topic in one storage file.

    Attributes:
        serialization: "cdr" for ROS 2 messages.
        count: number of messages.
        definition: of the type, as in the file; "" if it has none.
        definition_format: "ros2msg" or "ros2idl".
    """

    topic: str
    type: str
    serialization: str
    count: int
    definition: str = ""
    definition_format: str = ""


class StorageFile(Protocol):
    """One open storage file.

    Attributes:
        start_ns: receive time of the first message.
        end_ns: receive time of the last message.
    """

    channels: list[Channel]
    start_ns: int
    end_ns: int

    def messages(self, wanted: Mapping[str, str]) -> Iterator[StoredMessage]:
        """Yield the messages of the wanted topics in order of time; `wanted` has the type of each topic."""

    def close(self) -> None:
        """Close the file."""


def merge_by_start(sources: Sequence[tuple[int, Iterable[StoredMessage]]]) -> Iterator[StoredMessage]:
    """Merge sources by receive time. Each is its start (ns) and its messages from then on, in order of time.

    A source is read only once its start is reached: only sources that overlap are in memory together.
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
    """A bag, or a message in it, cannot be used; the text names bag, topic and remedy in one line."""
