"""Chunks -> one continuous motion. Knows nothing of ROS.

Action i of a chunk is meant for the observation's stamp + i * time_step. What has passed while the policy was inferring
is skipped, and the rest goes on from where the robot is commanded to be at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi0_ttnn_core.policy import ActionChunk
from pi0_ttnn_ros.safety import Limits, SafetyError, limit_positions


@dataclass(frozen=True)
class Trajectory:
    """A motion from `stamp` (nanoseconds) on.

    times: int64 [points], nanoseconds from the stamp, strictly increasing and positive
    positions, velocities: float64 [points, joints], in rad and rad/s (m and m/s); the last velocity is zero
    """

    stamp: int
    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray


class ChunkExecutor:
    """Knows what has been commanded last, and enters every new chunk from there."""

    def __init__(self, limits: Limits, time_step: float) -> None:
        """Take the joints' limits and the seconds between two actions."""
        self._limits = limits
        self._time_step = round(time_step * 1e9)
        self._commanded: Trajectory | None = None
        self._start = np.empty(0)

    def splice(self, chunk: ActionChunk, measured: np.ndarray, now: int) -> Trajectory:
        """Return the motion that executes what is left of `chunk` at `now` (nanoseconds).

        Args:
            measured: [joints], the measured positions: the start where nothing has been commanded yet.
        Raises:
            SafetyError: nothing of the chunk is left, or a value is not finite.
        """
        first = max(0, (now - chunk.stamp) // self._time_step + 1)
        actions = chunk.actions[first:]
        if len(actions) == 0:
            raise SafetyError(
                f"the chunk was {(now - chunk.stamp) * 1e-9:.2f} s old when it was ready, longer than its "
                f"{len(chunk.actions)} steps: nothing of it is left to execute"
            )
        times = chunk.stamp - now + self._time_step * np.arange(first, len(chunk.actions), dtype=np.int64)
        commanded = self.command_at(now)
        return self._command(now, times, actions, measured if commanded is None else commanded)

    def hold(self, now: int) -> Trajectory | None:
        """Return the motion that stops where the robot is commanded to be at `now` (nanoseconds).

        None where nothing has been commanded: there is nothing to stop.
        """
        position = self.command_at(now)
        if position is None:
            return None
        return self._command(now, np.array([self._time_step]), position[None], position)

    def reset(self) -> None:
        """Forget what has been commanded: someone else may have moved the robot since."""
        self._commanded = None

    def command_at(self, now: int) -> np.ndarray | None:
        """Return the commanded positions [joints] at `now`, None where nothing has been commanded."""
        commanded = self._commanded
        if commanded is None:
            return None
        times = np.concatenate([[0], commanded.times])
        points = np.concatenate([self._start[None], commanded.positions])
        return np.array([np.interp(now - commanded.stamp, times, points[:, joint]) for joint in range(points.shape[1])])

    def _command(self, now: int, times: np.ndarray, positions: np.ndarray, start: np.ndarray) -> Trajectory:
        steps = np.diff(times, prepend=0) * 1e-9
        limited = limit_positions(positions, start, steps, self._limits)
        slopes = np.diff(limited, axis=0, prepend=start[None]) / steps[:, None]
        self._start = start
        self._commanded = Trajectory(now, times, limited, _velocities(slopes))
        return self._commanded


def _velocities(slopes: np.ndarray) -> np.ndarray:
    """Return velocities at the points between segments of these slopes, [points, joints], the last zero.

    The harmonic mean, and zero at a turn, keeps the cubic through the points monotone: it overshoots no limit
    (Fritsch and Butland 1984).
    """
    before, after = slopes[:-1], slopes[1:]
    same_way = before * after > 0
    total = np.where(same_way, before + after, 1.0)
    inner = np.where(same_way, 2.0 * before * after / total, 0.0)
    return np.concatenate([inner, np.zeros_like(slopes[:1])])
