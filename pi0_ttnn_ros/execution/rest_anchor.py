"""Where a motion starts that starts from rest: where the robot was commanded to be, unless others moved it.

A robot at rest is not exactly where it was commanded to be. It may still be coming to rest, or its controller leaves a
steady-state error, such as a sagging arm. If each motion started from the measured positions, this error would add up
from hold to hold; if it started from the commanded ones, a joint that others moved meanwhile would jump back. So a
joint starts from its measured position only if it is not where it is expected: where it settled after it came to rest,
or before that anywhere from where it came to rest to where it was commanded to be.
"""

from __future__ import annotations

import numpy as np

from pi0_ttnn_ros.execution.safety import Limits

# How far a joint that has not settled may be from where it is expected, rad or m. Less for slow joints: what they cover
# in TOLERANCE_S at their maximum velocity. Half of it once they have settled.
TOLERANCE, TOLERANCE_S = 0.02, 0.05
# A joint has settled once its measured position has stayed within half of the tolerance for this long.
SETTLING_NS = 300_000_000
# The largest difference from the commanded position that can be a steady-state error, in tolerances.
STEADY_STATE_ERROR = 2.5
# What is measured up to so long after the robot came to rest says where that was.
FIRST_NS = 100_000_000


class RestAnchor:
    """Judges for each joint of a robot at rest whether others moved it.

    Attributes:
        noise: float64 [joints], rad or m, by which a joint that has settled may be off without having moved.
    """

    def __init__(self, limits: Limits) -> None:
        """Expect no steady-state error before one is seen."""
        self._tolerance = np.minimum(TOLERANCE, TOLERANCE_S * limits.max_velocity)
        self.noise = self._tolerance / 2
        self._commanded: np.ndarray | None = None
        self._since_ns = 0
        self._began = False
        self._error = np.zeros_like(self._tolerance)  # commanded - measured, of the last rest in which a joint settled

    def leave(self) -> None:
        """Take note that the robot moves."""
        self._commanded = None

    def start_positions(
        self, commanded: np.ndarray, measured: tuple[np.ndarray, int] | None, now_ns: int
    ) -> np.ndarray:
        """Return where a motion from here must start; meant to be called in each period of a rest.

        Args:
            commanded: the positions of the rest [joints], rad or m; what counts is those at its beginning.
            measured: the newest measured positions [joints] and their time; None if there are none that can be used.
            now_ns: the time.
        """
        if self._commanded is None:
            self._commanded, self._since_ns, self._began = commanded, now_ns, False
        # Where the robot was before it came to rest says nothing.
        if measured is None or measured[1] < self._since_ns:
            return commanded
        if not self._began:
            self._begin(measured[0], now_ns)
        return self._start_positions(measured[0], now_ns)

    def _start_positions(self, measured: np.ndarray, now_ns: int) -> np.ndarray:
        assert self._commanded is not None
        self._settle(measured, now_ns)
        tolerance = np.where(self._settled, self.noise, self._tolerance)
        moved = (measured < self._low - tolerance) | (measured > self._high + tolerance)
        return np.where(moved, measured, self._commanded)

    def _begin(self, measured: np.ndarray, now_ns: int) -> None:
        assert self._commanded is not None
        commanded = self._commanded
        # Farther off than any steady-state error, or later, it was not coming to rest.
        near = np.abs(measured - commanded) <= STEADY_STATE_ERROR * self._tolerance
        near &= now_ns - self._since_ns <= FIRST_NS
        first = np.where(near, measured, commanded)
        expected = np.stack([commanded, commanded - self._error, first])
        self._low, self._high = expected.min(axis=0), expected.max(axis=0)
        self._settled = np.zeros(len(commanded), bool)
        self._judged = np.zeros(len(commanded), bool)
        self._still_at, self._still_since_ns = first, np.full(len(commanded), now_ns)
        self._began = True

    def _settle(self, measured: np.ndarray, now_ns: int) -> None:
        """Take the positions at which joints have settled as those where they are expected from now on."""
        assert self._commanded is not None
        stirred = np.abs(measured - self._still_at) > self.noise
        self._still_at = np.where(stirred, measured, self._still_at)
        self._still_since_ns = np.where(stirred, now_ns, self._still_since_ns)
        due = ~self._judged & (now_ns - self._still_since_ns >= SETTLING_NS)
        # One that settles elsewhere was moved.
        expected = (measured >= self._low - self._tolerance) & (measured <= self._high + self._tolerance)
        accepted = due & expected
        self._error = np.where(accepted, self._commanded - measured, self._error)
        self._low, self._high = np.where(accepted, measured, self._low), np.where(accepted, measured, self._high)
        self._settled |= accepted
        self._judged |= due
