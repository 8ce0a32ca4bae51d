"""Digests of large files, remembered, so that a restart does not read all weights again."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path

from pi0_ttnn_core.checkpoints.files import file_digest
from pi0_ttnn_core.wormhole import cache_root

LOGGER = logging.getLogger(__name__)


class RememberedDigests:
    """The SHA-256 of files that were read before, in one file of the cache folder.

    A file is known by its path, size, time of change and inode: what replaces or changes a file changes one of these.
    Damage that does not, of the disk itself, is found after `forget_digests` only.
    """

    def __init__(self) -> None:
        self._entries = _read()
        self._changed = False

    def of(self, file: Path) -> str:
        """Return the SHA-256 of a file, which is read only if it is not known."""
        path, status = str(file.resolve()), file.stat()
        identity = [status.st_size, status.st_mtime_ns, status.st_ino]
        if path not in self._entries or self._entries[path][:-1] != identity:
            self._entries[path] = [*identity, file_digest(file)]
            self._changed = True
        return str(self._entries[path][-1])

    def save(self) -> None:
        """Remember the digests for other processes. What cannot be written is read again."""
        if not self._changed:
            return
        # What another process has remembered meanwhile stays; what no longer exists goes.
        entries = {path: entry for path, entry in (_read() | self._entries).items() if os.path.exists(path)}
        try:
            folder = cache_root()
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".writing-", delete=False) as file:
                json.dump(entries, file)
            Path(file.name).replace(_file())
        except OSError as error:
            LOGGER.warning("cannot remember the digests of weights: %s", error)


def forget_digests() -> None:
    """Have every file read and checked at its next use."""
    _file().unlink(missing_ok=True)


def _file() -> Path:
    return cache_root() / "digests.json"


def _read() -> dict[str, list[int | str]]:
    """Return size, time of change in ns, inode and digest of files by path; nothing of a file that is damaged."""
    try:
        entries = json.loads(_file().read_text(encoding="utf-8"))
        return {path: entry for path, entry in entries.items() if isinstance(entry, list) and len(entry) == 4}
    except (OSError, ValueError, AttributeError):
        return {}
