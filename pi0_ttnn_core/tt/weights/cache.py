"""Cache of converted weights on disk, so that a checkpoint is converted once. Files are checked by their digests."""

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

from pi0_ttnn_core.checkpoints.digests import RememberedDigests

LOGGER = logging.getLogger(__name__)
# Increment this when the conversion of weights changes.
FORMAT = 1
MANIFEST = "manifest.json"


def cache_key(*parts: object) -> str:
    """Return the name of the cache for the given checkpoint, sizes, precision and number of steps."""
    return hashlib.sha256(repr((FORMAT, version("ttnn"), *parts)).encode()).hexdigest()[:32]


class WeightCache:
    """The converted weights of one checkpoint at one precision, one file each.

    A missing or damaged file is converted again from the checkpoint, and the whole folder if its manifest is missing or
    invalid. If the disk cannot be written to, weights are used without being cached.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._digests = self._read_manifest()
        self._remembered = RememberedDigests()
        self._changed = False

    def get(self, name: str, convert: Callable[[], ttnn.Tensor]) -> ttnn.Tensor:
        """Return the host tensor `name` from the cache, or convert and cache it."""
        path = self.folder / f"{name}.tensorbin"
        expected = self._digests.get(name)
        if expected is not None:
            if path.is_file() and self._remembered.of(path) == expected:
                return ttnn.load_tensor(str(path))
            LOGGER.warning("%s is damaged or missing: converting it again", path)
        tensor = convert()
        self._store(path, name, tensor)
        return tensor

    def close(self) -> None:
        """Write the manifest, last: files that it does not list are not used."""
        self._remembered.save()
        if not self._changed:
            return
        try:
            _write(self.folder / MANIFEST, lambda path: path.write_text(json.dumps(self._digests)))
        except OSError as error:
            LOGGER.warning("cannot write the manifest of the weight cache: %s", error)

    def _store(self, path: Path, name: str, tensor: ttnn.Tensor) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, lambda temporary: ttnn.dump_tensor(str(temporary), tensor))
            self._digests[name] = self._remembered.of(path)
            self._changed = True
        except (OSError, RuntimeError) as error:
            LOGGER.warning("cannot cache the converted weight %s: %s", name, error)

    def _read_manifest(self) -> dict[str, str]:
        try:
            digests = json.loads((self.folder / MANIFEST).read_text())
        except (OSError, ValueError):
            shutil.rmtree(self.folder, ignore_errors=True)
            return {}
        return digests if isinstance(digests, dict) else {}


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file completely or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        temporary = Path(folder) / path.name
        write(temporary)
        temporary.replace(path)
