"""Whether the robot follows what it is commanded, judged once a period."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from pi0_ttnn_ros.execution.chunk_executor import Plan
from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.execution.turns import nearest_turn

# A robot may be this far behind its commands: it is where it should be if it is near any of them.
LAG_NS = 300_000_000
# After a hold for a joint that does not follow, the motion is tried again from where the robot is.
PAUSE_NS = 1_500_000_000
NOISE_S = 0.1  # what a joint covers in this time at its max_velocity is more than noise
MEMORY_NS = 5_000_000_000  # how long commands are remembered


class TrackingMonitor:
    """Compares the measured positions with what was commanded. Thread-safe are `reason` and `reset`.

    Attributes:
        tolerance: float64 [joints], rad or m, infinite for a joint that is not judged.
        noise: float64 [joints], rad or m. A joint that is commanded to move farther is seen to move.
        reason: why the robot has to hold, in words; empty if it follows.
    """

    pending = False

    def __init__(self, limits: Limits, grippers: Collection[str]) -> None:
        """Judge nothing until `tolerance` is set; `grippers` may be kept from moving by what they hold."""
        self.tolerance = np.full(len(limits.joint_names), np.inf)
        self.noise = limits.max_velocity * NOISE_S
        self.noise[[joint in grippers for joint in limits.joint_names]] = np.inf
        self._joint_names = limits.joint_names
        self._continuous = limits.continuous
        self.reset()

    def reset(self) -> None:
        """Forget what was commanded."""
        self.reason = ""
        self._failed_at_ns = 0
        # Times [points] and positions [points, joints]; one attribute, because another thread may reset it.
        self._commanded = (np.empty(0, np.int64), np.empty((0, len(self._joint_names))))

    def publish(self, plan: Plan) -> None:
        """Take a plan that is commanded; it replaces what earlier ones had for the same time."""
        times_ns, positions = self._commanded
        begin, end = np.searchsorted(times_ns, [plan.stamp_ns - MEMORY_NS, plan.stamp_ns])
        self._commanded = (
            np.append(times_ns[begin:end], plan.stamp_ns + plan.times_ns),
            np.vstack([positions[begin:end], plan.positions]),
        )

    def observe(self, measured: np.ndarray, stamp_ns: int, now_ns: int) -> None:
        """Judge where the robot was at `stamp_ns`, [joints], while a motion is commanded.

        At rest others may move it.
        """
        if self.reason and not 0 <= now_ns - self._failed_at_ns < PAUSE_NS:
            self.reason = ""
        low, high = self._range(min(stamp_ns, now_ns) - LAG_NS, now_ns)
        if self.reason or (low == high).all():
            return
        measured = nearest_turn(measured, (low + high) / 2, self._continuous)
        errors = measured - np.clip(measured, low, high)
        excess = np.abs(errors) - self.tolerance
        joint = int(np.argmax(excess))
        if excess[joint] > 0:
            self._failed_at_ns = now_ns
            self.reason = (
                f"joint {self._joint_names[joint]!r} does not follow: it is {errors[joint]:+.3f} from where it was "
                f"commanded to be in the last {LAG_NS * 1e-9:g} s, max_tracking_error is {self.tolerance[joint]:.3f}"
            )

    def commanded_motion(self, since_ns: int, until_ns: int) -> bool:
        """Return whether any joint was commanded to move by more than its noise."""
        low, high = self._range(since_ns, until_ns)
        noise = np.where(np.isfinite(self.tolerance), np.maximum(self.noise, self.tolerance / 2), self.noise)
        return bool((high - low > noise).any())

    def _range(self, since_ns: int, until_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and the highest position that was commanded, each [joints]; zeros if nothing was."""
        times_ns, positions = self._commanded
        first, last = np.searchsorted(times_ns, [since_ns, until_ns], side="right")
        first = max(0, first - 1)
        rows = positions[first : max(first + 1, last)]
        if not len(rows):
            return np.zeros(len(self._joint_names)), np.zeros(len(self._joint_names))
        return rows.min(axis=0), rows.max(axis=0)
