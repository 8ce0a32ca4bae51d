"""A checkpoint folder as named tensors, all of them checked before the first is read.

Two layouts, distinguished by their content: LeRobot's (config.json has a "type") and openpi's export to PyTorch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi0_ttnn_core.checkpoints.digests import RememberedDigests
from pi0_ttnn_core.checkpoints.files import (
    WEIGHT_DTYPES,
    CheckpointError,
    StoredTensor,
    read_json,
    stored_tensors,
)
from pi0_ttnn_core.checkpoints.lerobot_layout import TYPES, read_lerobot_metadata
from pi0_ttnn_core.checkpoints.metadata import CheckpointMetadata
from pi0_ttnn_core.checkpoints.openpi_layout import read_openpi_metadata
from pi0_ttnn_core.checkpoints.tensor_names import (
    BUFFER,
    EMBEDDING,
    TIED_HEAD,
    UNUSED,
    canonical_name,
    current_name,
    expected_shapes,
    upstream_name,
)
from pi0_ttnn_core.configs import PI0Config

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "CheckpointError", "open_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose tensors all have the right names, shapes and dtypes. No weight is in memory yet.

    Attributes:
        folder: the folder of its files.
        metadata: what it says of itself beside its weights.
        tensors: where each tensor is stored, by canonical name.
    """

    folder: Path
    metadata: CheckpointMetadata
    tensors: dict[str, StoredTensor]

    @property
    def config(self) -> PI0Config:
        """Sizes of the model."""
        return self.metadata.config

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras in the order of training."""
        return self.metadata.cameras

    @property
    def dtypes(self) -> list[str]:
        """Names of the dtypes that the weights are stored in."""
        return sorted({stored.dtype for stored in self.tensors.values()})

    def digest(self) -> str:
        """Return the SHA-256 of the weights' files, which identifies the checkpoint wherever it is stored.

        Files that were read before and have not changed since are not read again, see `RememberedDigests`.
        """
        digest, remembered = hashlib.sha256(), RememberedDigests()
        for file in sorted({stored.file for stored in self.tensors.values()}):
            digest.update(remembered.of(file).encode())
        remembered.save()
        return digest.hexdigest()

    def read_tensor(self, name: str) -> Tensor:
        """Return a tensor by its canonical name, in the stored dtype.

        The file is opened for each tensor: what was read stays mapped, and therefore resident, while it is open.
        """
        from safetensors import safe_open

        stored = self.tensors[name]
        with safe_open(stored.file, framework="pt") as archive:
            return archive.get_tensor(stored.name)

    def read_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (canonical name, tensor) one by one, in the stored dtype."""
        for name in self.tensors:
            yield name, self.read_tensor(name)


def open_checkpoint(folder: Path | str, normalization_key: str = "") -> Checkpoint:
    """Check a whole checkpoint folder and return it.

    Args:
        folder: holds config.json and model.safetensors, or shards with their index.
        normalization_key: which statistics to use, if an openpi checkpoint holds several.

    Raises:
        CheckpointError: the message lists all missing, unknown and misshapen tensors, or names the invalid file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a directory. Expected a folder with config.json and model.safetensors")
    content = read_json(folder / "config.json")
    stored = stored_tensors(folder)
    metadata = _metadata(folder, content, stored, normalization_key)
    used = {name: tensor for name, tensor in stored.items() if _is_used(name, stored)}
    _check_tensors(folder, used, metadata)
    return Checkpoint(
        folder=folder,
        metadata=metadata,
        tensors={_canonical_name(name): tensor for name, tensor in used.items()},
    )


def _metadata(
    folder: Path, content: dict[str, Any], stored: dict[str, StoredTensor], normalization_key: str
) -> CheckpointMetadata:
    if "type" not in content and ("action_horizon" in content or (folder / "assets").is_dir()):
        return read_openpi_metadata(folder, content, stored, normalization_key)
    if content.get("type") not in TYPES:
        raise CheckpointError(
            f"{folder / 'config.json'}: type is {content.get('type')!r}; supported are {list(TYPES)} of LeRobot, and "
            "openpi's export with its action_horizon"
        )
    if normalization_key:
        raise CheckpointError(
            f"{folder}: normalization_key is {normalization_key!r}, but LeRobot checkpoints have no keys"
        )
    return read_lerobot_metadata(folder, content, stored)


def _is_used(name: str, stored: dict[str, StoredTensor]) -> bool:
    current = current_name(name)
    if current == TIED_HEAD:
        return not any(current_name(other) == EMBEDDING for other in stored)
    return current not in UNUSED and not BUFFER.match(name)


def _canonical_name(name: str) -> str:
    return canonical_name(EMBEDDING if current_name(name) == TIED_HEAD else name)


def _check_tensors(folder: Path, used: dict[str, StoredTensor], metadata: CheckpointMetadata) -> None:
    prefix = "model." if metadata.layout == "lerobot" else ""
    found = {_canonical_name(name): tensor for name, tensor in used.items()}
    expected = expected_shapes(metadata.config)
    problems = [
        f"missing: {prefix}{upstream_name(name)} {list(expected[name])}" for name in expected if name not in found
    ]
    problems += [f"unknown: {name}" for name in used if _canonical_name(name) not in expected]
    for name, shape in expected.items():
        if name in found and found[name].shape != shape:
            problems.append(f"misshapen: {found[name].name} is {list(found[name].shape)}, expected {list(shape)}")
        if name in found and found[name].dtype not in WEIGHT_DTYPES:
            problems.append(f"dtype: {found[name].name} is {found[name].dtype}, expected one of {list(WEIGHT_DTYPES)}")
    if problems:
        listed = "\n  ".join(problems)
        raise CheckpointError(
            f"{folder}: {len(problems)} of the tensors do not match the {metadata.config.family} that config.json "
            f"describes:\n  {listed}"
        )
