"""The node's output as a terminal takes it: through a pipe whose reader can stop reading."""

from __future__ import annotations

import fcntl
import os
import threading
from collections import deque
from pathlib import Path

SIZE = 4096  # bytes: full after some tens of lines
KEPT = 40  # lines


class LogPipe:
    """A named pipe that keeps the last lines.

    Attributes:
        lines: the last lines that were read.
    """

    def __init__(self, path: Path) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT)
        os.mkfifo(path)
        self._file = os.open(path, os.O_RDWR)  # does not wait for a writer, and never ends
        fcntl.fcntl(self._file, fcntl.F_SETPIPE_SZ, SIZE)
        self._reads = threading.Event()
        self._reads.set()
        threading.Thread(target=self._read, name="log", daemon=True).start()

    def pause(self) -> None:
        """Stop reading, as Ctrl-S in a terminal does."""
        self._reads.clear()

    def resume(self) -> None:
        """Read again."""
        self._reads.set()

    def _read(self) -> None:
        rest = b""
        while True:
            *lines, rest = (rest + os.read(self._file, SIZE)).split(b"\n")
            self.lines.extend(line.decode(errors="replace") for line in lines)
            self._reads.wait()
