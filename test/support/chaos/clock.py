"""The node's clock, as the player of the faults knows it."""

from __future__ import annotations

import time
from collections import deque


class NodeClock:
    """The system's time, or a simulated one that keeps pace with it between its jumps.

    Attributes:
        simulated: whether it is the time of /clock.
        running: whether the simulated time goes on.
        jumped_ns: system's time of the last jump; 0 before the first.
    """

    def __init__(self, simulated: bool) -> None:
        self.simulated = simulated
        self.running = True
        self.jumped_ns = 0
        # From a system's time on: the distance of the two, or the time at which the clock stands.
        self._offsets: deque[tuple[int, int, bool]] = deque([(0, 0, True)], maxlen=100)
        if simulated:
            self.jump_to(1000 * 10**9)
            self.jumped_ns = 0

    def at(self, wall_ns: int) -> int:
        """Return the node's time at a system's time."""
        offset_ns, runs = next((o, r) for since_ns, o, r in reversed(self._offsets) if since_ns <= wall_ns)
        return wall_ns - offset_ns if runs else offset_ns

    def now_ns(self) -> int:
        """Return the node's time now."""
        return self.at(time.time_ns())

    def jump_to(self, time_ns: int) -> None:
        """Go on from another time."""
        self.jumped_ns = time.time_ns()
        self._offsets.append((self.jumped_ns, self.jumped_ns - time_ns, True))
        self.running = True

    def stop(self) -> None:
        """Stand still."""
        now_ns = time.time_ns()
        self._offsets.append((now_ns, self.at(now_ns), False))
        self.running = False

    def go_on(self) -> None:
        """Go on from where it stands."""
        now_ns = time.time_ns()
        self._offsets.append((now_ns, now_ns - self.at(now_ns), True))
        self.running = True
