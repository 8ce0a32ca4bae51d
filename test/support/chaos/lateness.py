"""How late the machine itself is: what it keeps the node and this process waiting, so that only the node is judged."""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path

INTERVAL = 0.02  # seconds between two samples
ALWAYS_NS = 2_000_000  # that a thread wakes up late on any machine
HISTORY = 60.0  # seconds


def waited_ns(pid: int) -> int:
    """Return how long all threads of a process were ready to run and did not: they waited for a core."""
    total = 0
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            try:
                total += int((thread / "schedstat").read_text().split()[1])
            except (OSError, IndexError):  # it just ended
                continue
    except OSError:
        return 0
    return total


class Lateness:
    """Samples the waiting of this process and of the node in a thread of its own, which is late as they are.

    Attributes:
        pid: process id of the node; 0 for none.
    """

    def __init__(self) -> None:
        self.pid = 0
        # Time, and what has been waited so far by this thread and by the node.
        self._samples: deque[tuple[int, int]] = deque(maxlen=round(HISTORY / INTERVAL))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lateness", daemon=True)
        self._thread.start()

    def between(self, start_ns: int, end_ns: int) -> int:
        """Return how late the machine was in a window of the system's time, nanoseconds."""
        # A sample after the window belongs to it too: its thread may have waited since before the end.
        waited, last = 0, end_ns + round(2 * INTERVAL * 1e9)
        for sampled_ns, late_ns in reversed(self._samples):
            if sampled_ns < start_ns:
                break
            if sampled_ns <= last + late_ns:
                waited += late_ns
        return waited

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        due, pid, before = time.monotonic(), 0, 0
        while not self._closing.wait(max(0.0, due - time.monotonic())):
            own_ns = max(0, round((time.monotonic() - due) * 1e9) - ALWAYS_NS)
            due = max(due + INTERVAL, time.monotonic())
            waited = waited_ns(self.pid) if self.pid else 0
            node_ns = max(0, waited - before) if pid == self.pid else 0
            pid, before = self.pid, waited
            if own_ns + node_ns:
                self._samples.append((time.time_ns(), own_ns + node_ns))
