"""MCAP files, whole or damaged.

Where the recorder was killed the file has no index: then everything is found by reading it once from the beginning, up
to the last whole message. A chunk that does not decompress is left out. Format: https://mcap.dev/spec.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import lz4.frame

from pi0_ttnn_ros.bags import zstd
from pi0_ttnn_ros.bags.storage import Channel, StorageError, StoredMessage, merge_by_start

MAGIC = b"\x89MCAP0\r\n"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS, DATA_END = 2, 3, 4, 5, 6, 8, 11, 15
OPCODES = range(1, 16)
FOOTER_SIZE = 9 + 20 + len(MAGIC)
LOOSE_BLOCK_SIZE = 1 << 20

_RECORD = struct.Struct("<BQ")  # opcode, size of the content
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK = struct.Struct("<QQQII")  # start, end, uncompressed size, CRC, length of the compression's name
_CHUNK_INDEX = struct.Struct("<QQQQ")  # start, end, offset and length of the chunk's record
_STATISTICS = struct.Struct("<QHIIIIQQI")  # messages, .., chunks, start, end, bytes of the counts

_Record = tuple[int, memoryview]  # opcode, content


class DamageError(ValueError):
    """A chunk that cannot be used."""


@dataclass
class _Block:
    """A stretch of the file with records: the content of a chunk's record, or messages that lie open in the file.

    is_cut: the file ends before the block does
    """

    offset: int
    size: int
    start_ns: int
    end_ns: int
    is_chunk: bool
    is_cut: bool = False


class McapFile:
    """One MCAP file, see `StorageFile`."""

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        """Open the file; `report` takes a line for whatever is left out, now or while reading.

        Raises:
            StorageError: nothing in it can be used.
        """
        self._report = report
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self._schemas: dict[int, tuple[str, str, str]] = {}  # name, encoding, definition
        self._channels: dict[int, tuple[int, str, str]] = {}  # schema, topic, message encoding
        self._counts: Counter[int] = Counter()
        self._blocks: list[_Block] = []
        try:
            if self._read(0, len(MAGIC)) != MAGIC:
                raise StorageError(
                    "is no MCAP file: its first bytes are not MCAP's; copy it anew from where it is whole"
                )
            if not self._read_summary():
                self._forget()
                self._scan()
        except BaseException:
            self.close()
            raise
        used = [block for block in self._blocks if block.end_ns]
        self.start_ns = min((block.start_ns for block in used), default=0)
        self.end_ns = max((block.end_ns for block in used), default=0)
        self.channels = [self._channel(number) for number in self._channels]

    def close(self) -> None:
        self._file.close()

    def messages(self, wanted: Mapping[str, str]) -> Iterator[StoredMessage]:
        """Yield the messages of the wanted topics, which have the types given, in order of time."""
        topics = {
            number: channel.topic
            for number, channel in zip(self._channels, self.channels, strict=True)
            if wanted.get(channel.topic) == channel.type
        }
        return merge_by_start([(block.start_ns, self._messages(block, topics)) for block in self._blocks])

    def _messages(self, block: _Block, topics: Mapping[int, str]) -> Iterator[StoredMessage]:
        found = []
        for opcode, record in self._records(block):
            if opcode == MESSAGE:
                number, _, time_ns, _ = _MESSAGE.unpack_from(record)
                if number in topics:
                    found.append((time_ns, topics[number], record[_MESSAGE.size :]))
        found.sort(key=itemgetter(0))
        yield from found

    def _channel(self, number: int) -> Channel:
        schema, topic, encoding = self._channels[number]
        name, definition_format, definition = self._schemas.get(schema, ("", "", ""))
        return Channel(topic, name, encoding, self._counts[number], definition, definition_format)

    # The index at the end of a file that was closed

    def _read_summary(self) -> bool:
        """Take channels, counts and chunks from the summary; False where there is none that can be used."""
        footer = self._read(self._size - FOOTER_SIZE, FOOTER_SIZE) if self._size > FOOTER_SIZE else b""
        if not footer.endswith(MAGIC) or footer[0] != FOOTER:
            return False
        (start,) = struct.unpack_from("<Q", footer, _RECORD.size)
        if not 0 < start < self._size:
            return False
        chunks = -1
        try:
            records, _ = _split(memoryview(self._read(start, self._size - FOOTER_SIZE - start)))
            for opcode, record in records:
                self._take(opcode, record)
                if opcode == CHUNK_INDEX:
                    first, last, offset, length = _CHUNK_INDEX.unpack_from(record)
                    self._blocks.append(_Block(offset + _RECORD.size, length - _RECORD.size, first, last, True))
                elif opcode == STATISTICS:
                    chunks, size = _STATISTICS.unpack_from(record)[5], _STATISTICS.unpack_from(record)[8]
                    counts = record[_STATISTICS.size : _STATISTICS.size + size]
                    self._counts.update(dict(struct.iter_unpack("<HQ", counts)))
        except (struct.error, UnicodeDecodeError):
            return False
        # Without chunks the messages lie open in the file, and no index says where.
        return bool(self._channels) and chunks == len(self._blocks) > 0

    def _forget(self) -> None:
        self._schemas.clear()
        self._channels.clear()
        self._counts.clear()
        self._blocks.clear()

    # A file without an index

    def _scan(self) -> None:
        """Take channels, counts and blocks from the whole file, up to where it breaks off."""
        position = len(MAGIC)
        while position + _RECORD.size <= self._size:
            opcode, size = _RECORD.unpack(self._read(position, _RECORD.size))
            if opcode in (FOOTER, DATA_END):
                return
            if opcode not in OPCODES:
                self._report(
                    f"is damaged at byte {position}: what follows is left out; copy it anew if there is a copy"
                )
                return
            position += _RECORD.size
            end = position + size
            if opcode == CHUNK:
                self._scan_chunk(_Block(position, size, 0, 0, is_chunk=True, is_cut=end > self._size))
            elif end <= self._size and opcode == MESSAGE:
                self._scan_message(position, size)
            elif end <= self._size and opcode in (SCHEMA, CHANNEL):
                self._take(opcode, memoryview(self._read(position, size)))
            position = end
        self._report(
            "was cut off, the recorder did not close it: read up to its last whole message; "
            "`mcap recover` makes a whole file of it"
        )

    def _scan_chunk(self, block: _Block) -> None:
        times_ns = []
        for opcode, record in self._records(block):
            self._take(opcode, record)
            if opcode == MESSAGE:
                number, _, time_ns, _ = _MESSAGE.unpack_from(record)
                self._counts[number] += 1
                times_ns.append(time_ns)
        if times_ns:
            block.start_ns, block.end_ns = min(times_ns), max(times_ns)
            self._blocks.append(block)

    def _scan_message(self, position: int, size: int) -> None:
        number, _, time_ns, _ = _MESSAGE.unpack(self._read(position, _MESSAGE.size))
        self._counts[number] += 1
        offset = position - _RECORD.size
        last = self._blocks[-1] if self._blocks else None
        if last is not None and last.offset + last.size == offset and last.size < LOOSE_BLOCK_SIZE:
            last.size += _RECORD.size + size
            last.start_ns, last.end_ns = min(last.start_ns, time_ns), max(last.end_ns, time_ns)
        else:
            self._blocks.append(_Block(offset, _RECORD.size + size, time_ns, time_ns, False))

    # Records

    def _take(self, opcode: int, record: memoryview) -> None:
        """Keep a schema or a channel."""
        if opcode == SCHEMA:
            (number,) = struct.unpack_from("<H", record)
            name, position = _string(record, 2)
            encoding, position = _string(record, position)
            self._schemas[number] = (name, encoding, _string(record, position)[0])
        elif opcode == CHANNEL:
            number, schema = struct.unpack_from("<HH", record)
            topic, position = _string(record, 4)
            self._channels[number] = (schema, topic, _string(record, position)[0])

    def _records(self, block: _Block) -> list[_Record]:
        """Return the records of a block; of a chunk that is damaged only those before the damage, or none."""
        data = memoryview(self._read(block.offset, block.size))
        try:
            if not block.is_chunk:
                return _split(data)[0]
            content = _chunk_content(data, block.is_cut)
        except DamageError as error:
            self._report_chunk(block, str(error))
            return []
        records, rest = _split(content)
        if rest and not block.is_cut:
            self._report_chunk(block, f"{rest} of its {len(content)} bytes are no records")
        return records

    def _report_chunk(self, block: _Block, reason: str) -> None:
        self._report(
            f"has a damaged chunk at byte {block.offset} ({reason}): what cannot be read of it is left out; "
            f"copy the file anew if there is a copy"
        )

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)


def _split(data: memoryview) -> tuple[list[_Record], int]:
    """Return the records up to the last whole one, and how many bytes remain after it."""
    records = []
    position = 0
    while position + _RECORD.size <= len(data):
        opcode, size = _RECORD.unpack_from(data, position)
        start = position + _RECORD.size
        if opcode not in OPCODES or start + size > len(data) or (opcode == MESSAGE and size < _MESSAGE.size):
            break
        position = start + size
        records.append((opcode, data[start:position]))
    return records, len(data) - position


def _string(record: memoryview, position: int) -> tuple[str, int]:
    """Return the string at `position` and where it ends."""
    (size,) = struct.unpack_from("<I", record, position)
    end = position + 4 + size
    return str(record[position + 4 : end], "utf-8"), end


def _chunk_content(data: memoryview, is_cut: bool) -> memoryview:
    """Return the records in a chunk, decompressed; of one that is cut off, as much as there is.

    Raises:
        DamageError: it does not decompress, its size or checksum is another or its compression is unknown.
    """
    if len(data) < _CHUNK.size:
        return memoryview(b"")
    _, _, full_size, checksum, name_size = _CHUNK.unpack_from(data)
    position = _CHUNK.size + name_size
    compression = bytes(data[_CHUNK.size : position]).decode("utf-8", "replace")
    stored = data[position + 8 :]
    try:
        if compression == "":
            content = stored
        elif compression == "zstd":
            content = memoryview(zstd.ZstdDecompressor().decompress(stored))
        elif compression == "lz4":
            content = memoryview(lz4.frame.LZ4FrameDecompressor().decompress(stored))
        else:
            raise DamageError(f"unknown compression {compression[:20]!r}")
    except (zstd.ZstdError, RuntimeError, EOFError) as error:
        raise DamageError(str(error)) from error
    if not is_cut and len(content) != full_size:
        raise DamageError(f"{len(content)} bytes instead of {full_size}")
    if checksum and not is_cut and zlib.crc32(content) != checksum:
        raise DamageError("its checksum is another")
    return content
