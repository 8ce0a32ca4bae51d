"""Converted weights on disk, so that a checkpoint is converted once: trusted only while their digests are right."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import ttnn

from pi0_ttnn_core.checkpoints.files import file_digest

LOGGER = logging.getLogger(__name__)
# To be raised when the way that weights are converted changes.
FORMAT = 1
MANIFEST = "manifest.json"


def cache_key(*parts: object) -> str:
    """Return the name of the cache for what these parts describe: checkpoint, sizes, precision, steps."""
    return hashlib.sha256(repr((FORMAT, version("ttnn"), *parts)).encode()).hexdigest()[:32]


class WeightCache:
    """The converted weights of one checkpoint at one precision, a file for each.

    A file that is missing or damaged is made again from the checkpoint; so is the whole folder where the list of its
    files is missing or no list. A disk that cannot be written to costs the cache, not the inference.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._digests = self._read_manifest()
        self._changed = False

    def get(self, name: str, convert: Callable[[], ttnn.Tensor]) -> ttnn.Tensor:
        """Return the host tensor `name`: as it was kept, or converted and kept."""
        path = self.folder / f"{name}.tensorbin"
        expected = self._digests.get(name)
        if expected is not None:
            if path.is_file() and file_digest(path) == expected:
                return ttnn.load_tensor(str(path))
            LOGGER.warning("%s is damaged or missing: converted again", path)
        tensor = convert()
        self._keep(path, name, tensor)
        return tensor

    def close(self) -> None:
        """Write the list of files, last: what it does not name does not count."""
        if not self._changed:
            return
        try:
            _write(self.folder / MANIFEST, lambda path: path.write_text(json.dumps(self._digests)))
        except OSError as error:
            LOGGER.warning("the cache of converted weights cannot be kept: %s", error)

    def _keep(self, path: Path, name: str, tensor: ttnn.Tensor) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, lambda temporary: ttnn.dump_tensor(str(temporary), tensor))
            self._digests[name] = file_digest(path)
            self._changed = True
        except (OSError, RuntimeError) as error:
            LOGGER.warning("the converted weight %s cannot be kept: %s", name, error)

    def _read_manifest(self) -> dict[str, str]:
        try:
            digests = json.loads((self.folder / MANIFEST).read_text())
        except (OSError, ValueError):
            shutil.rmtree(self.folder, ignore_errors=True)
            return {}
        return digests if isinstance(digests, dict) else {}


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        temporary = Path(folder) / path.name
        write(temporary)
        temporary.replace(path)
