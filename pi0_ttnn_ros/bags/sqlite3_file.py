"""SQLite files of rosbag2, whole or damaged: every row that can still be read."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pi0_ttnn_ros.bags.storage import Channel, StorageError, StoredMessage

_TOPICS = (
    "SELECT id, name, type, serialization_format FROM topics "
    "WHERE typeof(name) = 'text' AND typeof(type) = 'text' AND typeof(serialization_format) = 'text'"
)


class Sqlite3File:
    """One .db3 file, see `StorageFile`."""

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        """Open the file; `report` is called with a line for whatever is left out, now or while reading.

        Raises:
            StorageError: nothing in it can be used.
        """
        self._report = report
        self._database = _connect(path)
        self._topics: dict[int, Channel] = {}
        # Row ids in order of time, for a damaged file only: otherwise the index has them.
        self._ids: list[int] | None = None
        try:
            topics = self._database.execute(_TOPICS).fetchall()
            definitions = self._definitions()
            counts, self.start_ns, self.end_ns = self._counts()
        except sqlite3.Error as error:
            self.close()
            raise StorageError(f"is not a bag's SQLite file ({error}): copy it again from the source") from error
        self._topics = {
            number: Channel(topic, type_name, serialization, counts[number], *definitions.get(type_name, ("", "")))
            for number, topic, type_name, serialization in topics
        }
        self.channels = list(self._topics.values())

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def messages(self, wanted: Mapping[str, str]) -> Iterator[StoredMessage]:
        """Yield the messages of the wanted topics in order of time; `wanted` has the type of each topic."""
        topics = {
            number: channel.topic
            for number, channel in self._topics.items()
            if wanted.get(channel.topic) == channel.type
        }
        lost = 0
        for number in self._ids_in_order():
            time_ns, topic, data = self._row(number)
            if data is None:
                lost += 1
            elif topic in topics:
                yield time_ns, topics[topic], memoryview(data)
        if lost:
            self._report(f"is damaged: {lost} messages cannot be read and are left out; copy it again from the source")

    def _row(self, number: int) -> tuple[int, int, bytes | None]:
        """Return receive time, topic and data of a message; the data is None if it cannot be read."""
        query = "SELECT timestamp, topic_id, data FROM messages WHERE id = ?"
        try:
            time_ns, topic, data = self._database.execute(query, (number,)).fetchone() or (0, 0, None)
        except sqlite3.Error:
            return 0, 0, None
        readable = isinstance(time_ns, int) and isinstance(topic, int) and isinstance(data, bytes)
        return (time_ns, topic, data) if readable else (0, 0, None)

    def _ids_in_order(self) -> Iterator[int]:
        last = None
        if self._ids is None:
            try:
                for (last,) in self._database.execute("SELECT id FROM messages ORDER BY timestamp"):
                    yield last
                return
            except sqlite3.DatabaseError:  # the index is damaged from here on
                self._salvage()
        ids = self._ids or []
        yield from ids[ids.index(last) + 1 if last in ids else 0 :]

    def _definitions(self) -> dict[str, tuple[str, str]]:
        """Return definition and its format by type; older files have none."""
        try:
            rows = self._database.execute(
                "SELECT topic_type, encoded_message_definition, encoding FROM message_definitions"
            )
            return {name: (definition, encoding) for name, definition, encoding in rows}
        except sqlite3.OperationalError:
            return {}

    def _counts(self) -> tuple[Counter[int], int, int]:
        """Return the number of messages by topic, and the first and last time; 0, 0 without messages."""
        try:
            # The first query reads the index of times, the second the table: both must be whole.
            self._database.execute("SELECT count(*) FROM messages").fetchone()
            rows = self._database.execute(
                "SELECT topic_id, count(*), min(timestamp), max(timestamp) FROM messages GROUP BY topic_id"
            ).fetchall()
        except sqlite3.DatabaseError:
            return self._salvage()
        if not all(isinstance(value, int) for row in rows for value in row):
            return self._salvage()
        counts = Counter({topic: count for topic, count, _, _ in rows})
        return counts, min((row[2] for row in rows), default=0), max((row[3] for row in rows), default=0)

    def _salvage(self) -> tuple[Counter[int], int, int]:
        """Return what `_counts` returns, for a damaged file, and keep the ids of the rows that can be read."""
        found: list[tuple[int, int]] = []
        counts: Counter[int] = Counter()
        try:
            # In the order of the rows, which needs no index.
            for number, topic, time_ns in self._database.execute(
                "SELECT id, topic_id, timestamp FROM messages NOT INDEXED"
            ):
                if isinstance(topic, int) and isinstance(time_ns, int):
                    found.append((time_ns, number))
                    counts[topic] += 1
        except sqlite3.DatabaseError:
            pass
        found.sort()
        self._ids = [number for _, number in found]
        self._report(
            "is damaged or was cut off: every readable row is read; `sqlite3 FILE .recover | sqlite3 NEW` may find more"
        )
        return counts, found[0][0] if found else 0, found[-1][0] if found else 0


def _connect(path: Path) -> sqlite3.Connection:
    # Read only. The write-ahead log of a killed recorder is read too, if the folder is writable.
    for options in ("mode=ro", "immutable=1"):
        database = sqlite3.connect(f"{path.resolve().as_uri()}?{options}", uri=True)
        try:
            # Without this SQLite refuses a file that is shorter than its header says.
            database.execute("PRAGMA writable_schema = ON")
            database.execute("SELECT count(*) FROM sqlite_master")
            break
        except sqlite3.OperationalError:
            continue
        except sqlite3.DatabaseError:
            break
    return database
