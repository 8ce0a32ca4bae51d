"""Read the files of a checkpoint folder, and report precisely what is wrong with them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Dtypes that weights may have, by their names in safetensors files.
WEIGHT_DTYPES = ("F32", "BF16", "F16")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, the problem and the remedy."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is stored, and what the header of its file says.

    Attributes:
        file: the safetensors file.
        name: its name there.
        shape: its shape.
        dtype: name of its dtype: F32, BF16, ...
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: the file is missing, cannot be read or is not a JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: is this the folder of a PI0 checkpoint?") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}): download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} must hold a JSON object, not {type(content).__name__}")
    return content


def file_in(folder: Path, name: str) -> Path:
    """Return the file `name` of the folder.

    Raises:
        CheckpointError: the name leads out of the folder.
    """
    if Path(name).name != name or name == "..":
        raise CheckpointError(f"{folder}: the file name {name!r} leads out of the checkpoint's folder")
    return folder / name


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return all stored weights, from one file or from shards, by stored name."""
    stored: dict[str, StoredTensor] = {}
    for name in _weight_files(folder):
        stored |= tensors_in(file_in(folder, name))
    return stored


def tensors_in(file: Path) -> dict[str, StoredTensor]:
    """Return the tensors that the header of a safetensors file lists, by name.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    if not file.exists():
        pickles = sorted(found.name for pattern in PICKLES for found in file.parent.glob(pattern))
        if pickles:
            raise CheckpointError(
                f"{file} is missing, and {pickles} may be pickles, which can run any code and are refused: "
                "export the weights as safetensors"
            )
        raise CheckpointError(f"{file} is missing: the checkpoint is incomplete, download it again")
    try:
        with safe_open(file, framework="np") as archive:
            slices = {name: archive.get_slice(name) for name in archive.keys()}  # noqa: SIM118
            return {
                name: StoredTensor(file, name, tuple(part.get_shape()), part.get_dtype())
                for name, part in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged or not a safetensors file ({error}): download it again") from error


def read_vector(stored: StoredTensor) -> np.ndarray:
    """Return a stored statistic as float32 [size]."""
    if stored.dtype not in ("F32", "F16", "F64"):
        raise CheckpointError(f"{stored.file}: {stored.name} is {stored.dtype}; statistics must be float32")
    with safe_open(stored.file, framework="np") as archive:
        return np.asarray(archive.get_tensor(stored.name), np.float32)


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _weight_files(folder: Path) -> list[str]:
    index_file = folder / INDEX
    if not index_file.exists():
        return [WEIGHTS]
    weight_map = read_json(index_file).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index_file}: weight_map must map tensor names to file names")
    return sorted(set(weight_map.values()))


SENTENCEPIECE_FILE, JSON_FILE = "tokenizer.model", "tokenizer.json"
