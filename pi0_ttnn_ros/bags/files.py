"""Which files make a bag, and how they are opened."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePath

import yaml

from pi0_ttnn_ros.bags import zstd
from pi0_ttnn_ros.bags.mcap_file import McapFile
from pi0_ttnn_ros.bags.sqlite3_file import Sqlite3File
from pi0_ttnn_ros.bags.storage import BagError, StorageError, StorageFile

METADATA = "metadata.yaml"
STORAGES: dict[str, Callable[[Path, Callable[[str], None]], StorageFile]] = {".mcap": McapFile, ".db3": Sqlite3File}
COMPRESSED = ".zstd"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # a message in CDR begins with two bytes of which the first is 0


def find_bags(path: Path) -> list[Path]:
    """Return the bags that `path` names: itself, or those in the folder.

    Raises:
        BagError: there is none.
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
    if not path.exists():
        return f"{path}: does not exist; give the folder of a bag, or its .mcap or .db3 file"
    if path.suffix == ".bag":
        return f"{path}: is a bag of ROS 1; convert it with `rosbags-convert --src {path} --dst DIR`"
    return f"{path}: is no bag; give a folder with metadata.yaml, or a .mcap or .db3 file"


def storage_files(path: Path, problems: list[str]) -> list[Path]:
    """Return the storage files of a bag, by its metadata or, where that is missing or damaged, as they lie there."""
    if path.is_file() and _storage_suffix(path) in STORAGES:
        return [path]
    if not path.is_dir():
        raise BagError(not_a_bag(path))
    there = _stored_in(path)
    metadata = path / METADATA
    if not metadata.is_file() and not there:
        raise BagError(not_a_bag(path))
    if not metadata.is_file() and not _is_one_bag(there):
        raise BagError(f"{path}: holds several bags; name one of {[file.name for file in there]}")
    remedy = f"`ros2 bag reindex {path}` writes it anew"
    try:
        content = yaml.safe_load(metadata.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        # Old bags have the folder in these names as well.
        named = [path / PurePath(name).name for name in content["relative_file_paths"]]
    except FileNotFoundError:
        note_problem(problems, f"{metadata}: is missing, the storage files are read without it; {remedy}")
        return there
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        note_problem(problems, f"{metadata}: is damaged, the storage files are read without it ({error}); {remedy}")
        return there
    for file in named:
        if not file.is_file():
            note_problem(
                problems, f"{file}: is missing, though {METADATA} names it, and left out; put it back, or {remedy}"
            )
    return [file for file in named if file.is_file()]


def open_storage(file: Path, report: Callable[[str], None], stack: ExitStack) -> StorageFile:
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


def decompressed(raw: memoryview) -> memoryview:
    return memoryview(zstd.decompress(raw)) if raw[:4] == ZSTD_MAGIC else raw


def note_problem(problems: list[str], text: str) -> None:
    """Add one line, unless it is there already."""
    line = " ".join(text.split())
    if line not in problems:
        problems.append(line)
