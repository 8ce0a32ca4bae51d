"""Bags for tests: variants of a whole one, broken ones, and MCAP written record by record."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import lz4.frame
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

MAGIC = b"\x89MCAP0\r\n"
Entry = tuple[int, str, bytes]  # receive time, topic, message


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
    """Return an MCAP file without chunks, index and definitions, as rosbag2's preset `fastwrite` has no chunks."""
    content = MAGIC + record(1, text("ros2") + text("test"))
    numbers = {topic: number for number, topic in enumerate(types, start=1)}
    for topic, number in numbers.items():
        content += record(3, struct.pack("<H", number) + text(types[topic]) + text("") + text(""))
        content += record(4, struct.pack("<HH", number, number) + text(topic) + text(encoding) + text(""))
    for time, topic, raw in messages:
        content += record(5, struct.pack("<HIQQ", numbers[topic], 0, time, time) + raw)
    footer = record(15, bytes(4)) + record(2, bytes(20))
    return content + footer + MAGIC
