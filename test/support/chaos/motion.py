"""What a JointTrajectory commands: cubics between its points, then rest. Independent of the node's own planner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from trajectory_msgs.msg import JointTrajectory


@dataclass(frozen=True)
class Extremes:
    """The largest values of a motion at any time, between its points too, for each joint.

    Attributes:
        lowest: float64 [joints], rad.
        highest: float64 [joints], rad.
        speed: float64 [joints], rad/s.
        acceleration: float64 [joints], rad/s^2.
    """

    lowest: np.ndarray
    highest: np.ndarray
    speed: np.ndarray
    acceleration: np.ndarray


@dataclass(frozen=True)
class Motion:
    """The points of a trajectory, at rest after the last one.

    Attributes:
        start_ns: stamp of the trajectory, on the node's clock.
        times_ns: int64 [points], counted from the start.
        positions: float64 [points, joints], rad.
        velocities: float64 [points, joints], rad/s.
    """

    start_ns: int
    times_ns: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray

    @property
    def moving_until_ns(self) -> int:
        """The time at which the motion has come to rest; the start if nothing moves."""
        moves = self.velocities.any(axis=1)
        moves[:-1] |= np.diff(self.positions, axis=0).any(axis=1)
        if not moves.any():
            return self.start_ns
        last = min(int(np.flatnonzero(moves)[-1]) + 1, len(moves) - 1)
        return self.start_ns + int(self.times_ns[last])

    def at(self, time_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and velocities [joints] at a time of the node's clock."""
        elapsed_ns = time_ns - self.start_ns
        if elapsed_ns <= self.times_ns[0]:
            return self.positions[0], self.velocities[0]
        if elapsed_ns >= self.times_ns[-1]:
            return self.positions[-1], np.zeros_like(self.positions[-1])
        point = int(np.searchsorted(self.times_ns, elapsed_ns, side="right")) - 1
        a, b, c, d = (coefficient[point] for coefficient in self._cubics())
        t = (elapsed_ns - self.times_ns[point]) * 1e-9
        return a + t * (b + t * (c + t * d)), b + t * (2 * c + t * 3 * d)

    def extremes(self) -> Extremes:
        """Return the largest values at and between all points."""
        a, b, c, d = self._cubics()
        duration = (np.diff(self.times_ns) * 1e-9)[:, None]
        # The velocity is largest at a point or where the acceleration 2 c + 6 d t is zero.
        with np.errstate(divide="ignore", invalid="ignore"):
            turning = _inside(-c / (3 * d), duration)
            # The position is largest at a point or where the velocity b + 2 c t + 3 d t^2 is zero: d may be zero.
            root = np.sqrt(c * c - 3 * b * d)
            stops = [_inside(t, duration) for t in (-b / (c + root), -b / (c - root))]
        speeds = np.abs(b + turning * (2 * c + turning * 3 * d))
        between = np.concatenate([a + t * (b + t * (c + t * d)) for t in stops])
        positions = np.concatenate([self.positions, between])
        return Extremes(
            positions.min(axis=0),
            positions.max(axis=0),
            np.maximum(speeds.max(axis=0), np.abs(self.velocities).max(axis=0)),
            np.maximum(np.abs(2 * c), np.abs(2 * c + 6 * d * duration)).max(axis=0),
        )

    def _cubics(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return a, b, c, d [points - 1, joints] of a + b t + c t^2 + d t^3, t in seconds from each point."""
        duration = (np.diff(self.times_ns) * 1e-9)[:, None]
        before, after = self.velocities[:-1], self.velocities[1:]
        slope = np.diff(self.positions, axis=0) / duration
        c = (3 * slope - 2 * before - after) / duration
        return self.positions[:-1], before, c, (before + after - 2 * slope) / duration**2


def motion_of(message: JointTrajectory, now_ns: int) -> Motion:
    """Return the motion of a message with positions and velocities at each point; without a stamp it starts now."""
    points = message.points
    times = [point.time_from_start.sec * 10**9 + point.time_from_start.nanosec for point in points]
    return Motion(
        message.header.stamp.sec * 10**9 + message.header.stamp.nanosec or now_ns,
        np.array(times, np.int64),
        np.array([point.positions for point in points], np.float64).reshape(len(points), -1),
        np.array([point.velocities for point in points], np.float64).reshape(len(points), -1),
    )


def _inside(times: np.ndarray, duration: np.ndarray) -> np.ndarray:
    """Return the times that lie within their segment, 0 (the segment's first point) for the others."""
    return np.where((times > 0) & (times < duration), times, 0.0)
