"""MCAP files, whole or damaged.

The library mcap knows the format of each record. Its readers stop at the first fault, so which records are read is
decided here: a file whose recorder was killed has no index and is read once from the beginning, up to its last whole
message; of a damaged chunk the records before the damage are read, and none if it does not decompress. The library
copies each chunk and each message, which takes 40 % more time for raw images: these are sliced here.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from operator import itemgetter
from pathlib import Path

import lz4.frame
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel as ChannelRecord
from mcap.records import Chunk, ChunkIndex, Footer, Schema, Statistics
from mcap.stream_reader import StreamReader

from pi0_ttnn_ros.bags import zstd
from pi0_ttnn_ros.bags.storage import MAX_UNPACKED_SIZE, Channel, StorageError, StoredMessage, merge_by_start

MAGIC = b"\x89MCAP0\r\n"
OPCODES = frozenset(Opcode)
RECORD_HEADER = struct.Struct("<BQ")  # opcode, size of the content
MESSAGE_HEADER = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
FOOTER_SIZE = RECORD_HEADER.size + 20 + len(MAGIC)
CHUNK_HEAD_SIZE = 64  # more than what stands before a chunk's data
LOOSE_BLOCK_SIZE = 1 << 20
# What the library raises for a record that is cut off or does not match its opcode.
FAULTS = (McapError, struct.error, UnicodeDecodeError, OverflowError)
MAX_TIME_NS = (1 << 63) - 1

_Record = tuple[int, memoryview]  # opcode, content


class DamageError(ValueError):
    """A chunk cannot be used."""


@dataclass
class _Block:
    """A stretch of the file with records: the content of a chunk record, or messages outside chunks.

    Attributes:
        is_cut: the file ends before the block does.
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
        """Open the file; `report` is called with a line for whatever is left out, now or while reading.

        Raises:
            StorageError: nothing in it can be used.
        """
        self._report = report
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, ChannelRecord] = {}
        self._counts: Counter[int] = Counter()
        self._blocks: list[_Block] = []
        try:
            if self._read(0, len(MAGIC)) != MAGIC:
                raise StorageError("is not an MCAP file: its first bytes are not MCAP's; copy it again from the source")
            if not self._read_summary():
                self._forget()
                self._scan()
        except BaseException:
            self.close()
            raise
        used = [block for block in self._blocks if block.end_ns]
        self.start_ns = min((block.start_ns for block in used), default=0)
        self.end_ns = max((block.end_ns for block in used), default=0)
        self.channels = [self._channel(record) for record in self._channels.values()]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self, wanted: Mapping[str, str]) -> Iterator[StoredMessage]:
        """Yield the messages of the wanted topics in order of time; `wanted` has the type of each topic."""
        topics = {
            number: channel.topic
            for number, channel in zip(self._channels, self.channels, strict=True)
            if wanted.get(channel.topic) == channel.type
        }
        return merge_by_start([(block.start_ns, self._messages(block, topics)) for block in self._blocks])

    def _messages(self, block: _Block, topics: Mapping[int, str]) -> Iterator[StoredMessage]:
        found = []
        for opcode, content in self._records(block):
            if opcode == Opcode.MESSAGE:
                number, _, time_ns, _ = MESSAGE_HEADER.unpack_from(content)
                if number in topics:
                    found.append((time_ns, topics[number], content[MESSAGE_HEADER.size :]))
        found.sort(key=itemgetter(0))
        yield from found

    def _channel(self, record: ChannelRecord) -> Channel:
        schema = self._schemas.get(record.schema_id, Schema(0, b"", "", ""))
        definition = schema.data.decode(errors="replace")
        count = self._counts[record.id]
        return Channel(record.topic, schema.name, record.message_encoding, count, definition, schema.encoding)

    # The index at the end of a file that was closed

    def _read_summary(self) -> bool:
        """Take channels, counts and chunks from the summary; return whether there is one that can be used."""
        footer = self._read(self._size - FOOTER_SIZE, FOOTER_SIZE) if self._size > FOOTER_SIZE else b""
        if not footer.endswith(MAGIC) or footer[0] != Opcode.FOOTER:
            return False
        start = Footer.read(_stream(footer[RECORD_HEADER.size :])).summary_start
        if not 0 < start < self._size or self._size - start > MAX_UNPACKED_SIZE:
            return False
        chunks = -1
        summary = BytesIO(self._read(start, self._size - start))
        try:
            for record in StreamReader(summary, skip_magic=True, emit_chunks=True).records:
                if isinstance(record, Schema):
                    self._schemas[record.id] = record
                elif isinstance(record, ChannelRecord):
                    self._channels[record.id] = record
                elif isinstance(record, ChunkIndex):
                    self._blocks.append(_indexed_block(record))
                elif isinstance(record, Statistics):
                    chunks = record.chunk_count
                    self._counts.update(record.channel_message_counts)
        except FAULTS:
            return False
        if any(block.end_ns > MAX_TIME_NS for block in self._blocks):
            return False
        # No index says where messages outside chunks are.
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
        while position + RECORD_HEADER.size <= self._size:
            opcode, size = RECORD_HEADER.unpack(self._read(position, RECORD_HEADER.size))
            if opcode in (Opcode.FOOTER, Opcode.DATA_END):
                return
            start = position + RECORD_HEADER.size
            is_cut = start + size > self._size
            content = b"" if is_cut else self._read(start, min(size, MESSAGE_HEADER.size))
            if opcode not in OPCODES or not (is_cut or _is_record(opcode, content)):
                self._report(
                    f"is damaged at byte {position}: the rest is left out; copy it again if there is another copy"
                )
                return
            position = start + size
            if opcode == Opcode.CHUNK:
                self._scan_chunk(_Block(start, size, 0, 0, is_chunk=True, is_cut=is_cut))
            elif not is_cut and opcode == Opcode.MESSAGE:
                self._scan_message(start, size)
            elif not is_cut:
                self._take(opcode, self._read(start, size))
        self._report(
            "was cut off, the recorder did not close it: read up to its last whole message; "
            "`mcap recover` makes a whole file of it"
        )

    def _scan_chunk(self, block: _Block) -> None:
        times_ns = []
        for opcode, content in self._records(block):
            if opcode == Opcode.MESSAGE:
                number, _, time_ns, _ = MESSAGE_HEADER.unpack_from(content)
                self._counts[number] += 1
                times_ns.append(time_ns)
            else:
                self._take(opcode, bytes(content))
        if times_ns:
            block.start_ns, block.end_ns = min(times_ns), max(times_ns)
            self._blocks.append(block)

    def _scan_message(self, start: int, size: int) -> None:
        """Add a message outside chunks to the block that ends where it begins, or to a new one."""
        number, _, time_ns, _ = MESSAGE_HEADER.unpack(self._read(start, MESSAGE_HEADER.size))
        self._counts[number] += 1
        offset, size = start - RECORD_HEADER.size, RECORD_HEADER.size + size
        last = self._blocks[-1] if self._blocks else None
        if last is not None and last.offset + last.size == offset and last.size < LOOSE_BLOCK_SIZE:
            last.size += size
            last.start_ns, last.end_ns = min(last.start_ns, time_ns), max(last.end_ns, time_ns)
        else:
            self._blocks.append(_Block(offset, size, time_ns, time_ns, is_chunk=False))

    def _take(self, opcode: int, content: bytes) -> None:
        """Keep a schema or a channel."""
        try:
            if opcode == Opcode.SCHEMA:
                schema = Schema.read(_stream(content))
                self._schemas[schema.id] = schema
            elif opcode == Opcode.CHANNEL:
                channel = ChannelRecord.read(_stream(content))
                self._channels[channel.id] = channel
        except FAULTS:
            self._report(
                "has the damaged description of a topic, which is left out; copy it again if there is another copy"
            )

    # Records

    def _records(self, block: _Block) -> list[_Record]:
        """Return the records of a block; of a damaged chunk those before the damage, or none."""
        try:
            if block.is_chunk and block.size > MAX_UNPACKED_SIZE:
                raise DamageError(f"{block.size} bytes are too many for a chunk")
            data = self._read(block.offset, block.size)
            if not block.is_chunk:
                return _split(data)[0]
            content = _chunk_content(data, block.is_cut)
        except DamageError as error:
            self._report_chunk(block, str(error))
            return []
        records, rest = _split(content)
        if rest and not block.is_cut:
            self._report_chunk(block, f"{rest} of its {len(content)} bytes are not records")
        return records

    def _report_chunk(self, block: _Block, reason: str) -> None:
        self._report(
            f"has a damaged chunk at byte {block.offset} ({reason}): what cannot be read of it is left out; "
            f"copy the file again if there is another copy"
        )

    def _read(self, offset: int, size: int) -> bytes:
        offset = min(offset, self._size)
        self._file.seek(offset)
        return self._file.read(max(0, min(size, self._size - offset)))


def _stream(data: bytes) -> ReadDataStream:
    return ReadDataStream(BytesIO(data))


def _indexed_block(index: ChunkIndex) -> _Block:
    offset, size = index.chunk_start_offset + RECORD_HEADER.size, index.chunk_length - RECORD_HEADER.size
    return _Block(offset, size, index.message_start_time, index.message_end_time, is_chunk=True)


def _is_record(opcode: int, content: bytes | memoryview) -> bool:
    """Return whether there is such a record; of a message its head is looked at."""
    if opcode != Opcode.MESSAGE:
        return opcode in OPCODES
    return len(content) >= MESSAGE_HEADER.size and MESSAGE_HEADER.unpack_from(content)[2] <= MAX_TIME_NS


def _split(data: bytes | memoryview) -> tuple[list[_Record], int]:
    """Return the records up to the last whole one, and how many bytes remain after it."""
    view = memoryview(data)
    records = []
    position = 0
    while position + RECORD_HEADER.size <= len(view):
        opcode, size = RECORD_HEADER.unpack_from(view, position)
        start = position + RECORD_HEADER.size
        if start + size > len(view) or not _is_record(opcode, view[start : start + size]):
            break
        position = start + size
        records.append((opcode, view[start:position]))
    return records, len(view) - position


def _chunk_content(data: bytes, is_cut: bool) -> memoryview:
    """Return the records in a chunk, decompressed; of one that is cut off, as much as there is.

    Raises:
        DamageError: it does not decompress, its size or checksum is wrong, or its compression is unknown.
    """
    head = _stream(data[:CHUNK_HEAD_SIZE])
    try:
        chunk = Chunk.read(head)
    except FAULTS as error:
        if is_cut:
            return memoryview(b"")
        raise DamageError("its head is damaged") from error
    stored = memoryview(data)[head.count - len(chunk.data) :]
    size = chunk.uncompressed_size
    if size > MAX_UNPACKED_SIZE:
        raise DamageError(f"{size} bytes are too many for a chunk")
    try:
        if chunk.compression == "":
            content = stored
        elif chunk.compression == "zstd":
            content = memoryview(zstd.ZstdDecompressor().decompress(stored, size + 1))
        elif chunk.compression == "lz4":
            content = memoryview(lz4.frame.LZ4FrameDecompressor().decompress(stored, size + 1))
        else:
            raise DamageError(f"unknown compression {chunk.compression[:20]!r}")
    except (zstd.ZstdError, RuntimeError, EOFError) as error:
        raise DamageError(str(error)) from error
    if is_cut:
        return content
    if len(content) != size:
        raise DamageError(f"it is {'longer' if len(content) > size else 'shorter'} than the {size} bytes of its head")
    if chunk.uncompressed_crc and zlib.crc32(content) != chunk.uncompressed_crc:
        raise DamageError("its checksum does not match")
    return content
