"""Output that does not make its writer wait while nobody reads it.

A write to a full pipe blocks, as to a terminal that was paused with Ctrl-S. A logger may hold Python's lock meanwhile,
so that no other thread of the process could help: a process beside it reads all the time and passes the lines on.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
import threading
from collections import deque

MAX_LINES = 1000  # that wait for their reader; older ones are dropped
MAX_LINE_SIZE = 1 << 16  # bytes; a longer line is passed on in parts
PIPE_SIZE = 1 << 20  # bytes; enough while other processes keep the relay waiting for the processor
FLUSH_S = 1.0  # that the last lines may take


def relay_output() -> None:
    """Pass stdout and stderr through a relay, where they may block; the last lines follow at exit."""
    outputs = [descriptor for descriptor in (1, 2) if _may_block(descriptor)]
    if not outputs:
        return
    if os.isatty(2):
        os.environ.setdefault("RCUTILS_COLORIZED_OUTPUT", "1")  # rcutils looks at stderr, which is a pipe from now on
    ends, targets = [], []
    pipes: dict[tuple[int, int], int] = {}  # by target, so that lines for the same one stay in order
    for output in outputs:
        status = os.fstat(output)
        target = status.st_dev, status.st_ino
        if target not in pipes:
            end, pipes[target] = os.pipe()
            with contextlib.suppress(PermissionError):  # the user's pipes are large enough already
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            ends.append(end)
            targets.append(output)
    words = [f"{end}:{target}" for end, target in zip(ends, targets, strict=True)]
    relay = subprocess.Popen([sys.executable, "-I", "-S", __file__, *words], stdin=subprocess.DEVNULL, pass_fds=ends)
    for output in outputs:
        status = os.fstat(output)
        os.dup2(pipes[status.st_dev, status.st_ino], output)
    for end in (*ends, *pipes.values()):
        os.close(end)
    atexit.register(_flush, relay, outputs)


def _may_block(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:  # closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def _flush(relay: subprocess.Popen[bytes], outputs: list[int]) -> None:
    """Close the relay's inputs and wait until it has passed on the last lines."""
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_WRONLY)
    for output in outputs:
        os.dup2(nothing, output)
    with contextlib.suppress(subprocess.TimeoutExpired):
        relay.wait(2 * FLUSH_S)


class _Lines:
    """The lines between the thread that reads and the one that writes."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=MAX_LINES)
        self._dropped = 0
        self._ended = False
        self._changed = threading.Condition()

    def put(self, line: bytes) -> None:
        """Add a line, and drop the oldest if there are too many; an empty one ends them."""
        with self._changed:
            if not line:
                self._ended = True
            else:
                self._dropped += len(self._lines) == MAX_LINES
                self._lines.append(line)
            self._changed.notify()

    def get(self) -> bytes:
        """Return how many lines were dropped, or the next one; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._ended)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                return f"[{dropped} lines were dropped while nobody read the output]\n".encode()
            return self._lines.popleft() if self._lines else b""


def _read(descriptor: int, lines: _Lines) -> None:
    with open(descriptor, "rb") as stream:
        while line := stream.readline(MAX_LINE_SIZE):
            lines.put(line)
    lines.put(b"")


def _write(descriptor: int, lines: _Lines) -> None:
    while rest := lines.get():
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                select.select([], [descriptor], [])
            except OSError:  # the reader is gone: the lines are read and dropped
                return


def main() -> None:
    """Relay INPUT:OUTPUT..., file descriptors, until the inputs end."""
    # A signal to the whole group is for the processes that write; their last lines are still to come.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    readers, writers = [], []
    for word in sys.argv[1:]:
        source, target = map(int, word.split(":"))
        lines = _Lines()
        readers.append(threading.Thread(target=_read, args=(source, lines)))
        writers.append(threading.Thread(target=_write, args=(target, lines), daemon=True))
    for thread in (*readers, *writers):
        thread.start()
    for reader in readers:
        reader.join()
    for writer in writers:
        writer.join(FLUSH_S)
    os._exit(0)  # although a writer may hang


if __name__ == "__main__":
    main()
