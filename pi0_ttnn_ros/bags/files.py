"""Find the storage files of a bag, and open them."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from io import BufferedIOBase
from pathlib import Path, PurePath
from typing import IO

import yaml

from pi0_ttnn_ros.bags import zstd
from pi0_ttnn_ros.bags.mcap_file import McapFile
from pi0_ttnn_ros.bags.sqlite3_file import Sqlite3File
from pi0_ttnn_ros.bags.storage import MAX_UNPACKED_SIZE, BagError, StorageError, StorageFile

METADATA = "metadata.yaml"
STORAGES: dict[str, Callable[[Path, Callable[[str], None]], StorageFile]] = {".mcap": McapFile, ".db3": Sqlite3File}
COMPRESSED = ".zstd"
MAX_RATIO = 1000  # of an unpacked file's size to that of the compressed one
MIN_FREE_SIZE = 1 << 28  # bytes that unpacking leaves on the disk
BLOCK_SIZE = 1 << 16  # what is lost where a file breaks off
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # a message in CDR begins with two bytes of which the first is 0


def find_bags(path: Path) -> list[Path]:
    """Return the bags that `path` names: itself, or those in the folder.

    Raises:
        BagError: there are none.
    """
    inside = sorted(child for child in path.iterdir() if _is_bag(child)) if path.is_dir() else []
    if _is_bag(path) and not any(child.is_dir() for child in inside):
        return [path]
    if not inside:
        raise BagError(not_a_bag(path))
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


def not_a_bag(path: Path) -> str:
    """Return what is wrong with a path that is not a bag, and the remedy."""
    if not path.exists():
        return f"{path} does not exist: expected the folder of a bag, or its .mcap or .db3 file"
    if path.suffix == ".bag":
        return f"{path} is a ROS 1 bag: convert it with `rosbags-convert --src {path} --dst DIR`"
    return f"{path} is not a rosbag2: expected a folder with metadata.yaml, or a .mcap or .db3 file"


def storage_files(path: Path, problems: list[str]) -> list[Path]:
    """Return the storage files that the metadata names or, if it is missing or damaged, those in the folder.

    A line is added to `problems` for whatever is missing or damaged.

    Raises:
        BagError: `path` is not a bag.
    """
    if path.is_file() and _storage_suffix(path) in STORAGES:
        return [path]
    if not path.is_dir():
        raise BagError(not_a_bag(path))
    present = _stored_in(path)
    metadata = path / METADATA
    if not metadata.is_file() and not present:
        raise BagError(not_a_bag(path))
    if not metadata.is_file() and not _is_one_bag(present):
        raise BagError(f"{path}: holds several bags; name one of {[file.name for file in present]}")
    remedy = f"`ros2 bag reindex {path}` restores it"
    try:
        content = yaml.safe_load(metadata.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        # In old bags these names include the folder.
        named = [path / PurePath(name).name for name in content["relative_file_paths"]]
    except FileNotFoundError:
        note_problem(problems, f"{metadata}: is missing, the storage files are read without it; {remedy}")
        return present
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        note_problem(problems, f"{metadata}: is damaged, the storage files are read without it ({error}); {remedy}")
        return present
    for file in named:
        if not file.is_file():
            note_problem(
                problems, f"{file}: is missing, though {METADATA} names it, and is left out; put it back, or {remedy}"
            )
    return [file for file in named if file.is_file()]


def open_storage(file: Path, report: Callable[[str], None], stack: ExitStack) -> StorageFile:
    """Open a storage file; if it is compressed, its copy, which `stack` removes.

    `report` is called with a line for whatever is left out, now or while reading.

    Raises:
        StorageError: nothing in the file can be used.
    """
    suffix = _storage_suffix(file)
    if suffix not in STORAGES:
        raise StorageError(f"its storage {suffix!r} is not one of {list(STORAGES)}; convert it with `ros2 bag convert`")
    if file.suffix == COMPRESSED:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pi0_bag_"))
        file = _unpacked(file, Path(folder), report)
    return STORAGES[suffix](file, report)


def _unpacked(file: Path, folder: Path, report: Callable[[str], None]) -> Path:
    """Return the decompressed copy of a file; of a damaged file, as much as decompresses.

    Raises:
        StorageError: the copy would be far larger than the file, or fill the disk.
    """
    target = folder / file.stem
    with target.open("wb") as output:
        try:
            with zstd.open(file, "rb") as source:
                _copy(source, output, max(MAX_UNPACKED_SIZE, MAX_RATIO * file.stat().st_size))
        except (zstd.ZstdError, EOFError) as error:
            report(
                f"does not decompress to its end ({error}), read up to there; copy it again if there is another copy"
            )
    return target


def _copy(source: BufferedIOBase, target: IO[bytes], max_size: int) -> None:
    """Copy a file into the temporary folder, at most `max_size` bytes."""
    size = 0
    while block := source.read(BLOCK_SIZE):
        size += len(block)
        if size > max_size:
            raise StorageError(
                f"unpacks to more than {max_size / 1e6:.0f} MB, which no recording does: copy it again from the "
                f"source, or unpack it yourself with `zstd -d`"
            )
        if shutil.disk_usage(tempfile.gettempdir()).free < MIN_FREE_SIZE:
            raise StorageError(f"fills {tempfile.gettempdir()} when unpacked: set TMPDIR to a folder with more space")
        target.write(block)


def decompressed(raw: memoryview) -> memoryview:
    """Return a message, decompressed if the recorder compressed each message."""
    return memoryview(zstd.decompress(raw, MAX_UNPACKED_SIZE)) if raw[:4] == ZSTD_MAGIC else raw


def note_problem(problems: list[str], text: str) -> None:
    """Add a text to the problems as one line, unless they have it already."""
    line = " ".join(text.split())
    if line not in problems:
        problems.append(line)
