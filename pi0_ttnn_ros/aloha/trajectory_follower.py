"""Joint trajectories, checked and interpolated as ros2_controllers' joint_trajectory_controller does.

With one difference: a trajectory that has begun already is met at its next point, where the controller jumps onto it at
once. Positions are in rad, or in m for prismatic joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ttnn_ros.observation.stamps import nanoseconds


class TrajectoryError(ValueError):
    """A trajectory that a joint_trajectory_controller refuses; the message names what is wrong."""


@dataclass(frozen=True)
class Waypoints:
    """Points to pass through.

    Attributes:
        start_ns: time from which `times_ns` are counted.
        times_ns: int64 [points], strictly increasing from at least 0.
        positions: float64 [points, joints], rad or m.
        velocities: float64 [points, joints], rad/s or m/s; None if only positions are given.
    """

    start_ns: int
    times_ns: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray | None


def check_joint_names(names: Sequence[str], expected: Sequence[str]) -> None:
    """Check that `names` are the expected ones, in any order.

    Raises:
        TrajectoryError: a name is unknown, missing or given twice.
    """
    unknown = [name for name in names if name not in expected]
    missing = [name for name in expected if name not in names]
    if unknown or missing or len(names) != len(expected):
        raise TrajectoryError(f"joint names: unknown {unknown}, missing {missing}, {len(names)} of {len(expected)}")


def check_trajectory(waypoints: Waypoints, now_ns: int) -> None:
    """Check what can be followed from `now_ns` on.

    Raises:
        TrajectoryError: times do not increase, a value is not finite, the last velocity is not zero, or the trajectory
            ends in the past.
    """
    times_ns = waypoints.times_ns
    if len(times_ns) == 0:
        raise TrajectoryError("the trajectory has no points")
    if times_ns[0] < 0 or (np.diff(times_ns) <= 0).any():
        seconds = (times_ns * 1e-9).tolist()
        raise TrajectoryError(f"time_from_start must increase strictly from at least 0, not {seconds}")
    velocities = waypoints.velocities
    if not np.isfinite(waypoints.positions).all() or (velocities is not None and not np.isfinite(velocities).all()):
        raise TrajectoryError("positions or velocities have values that are not finite")
    if velocities is not None and velocities[-1].any():
        raise TrajectoryError("the velocity of the last point must be zero")
    end_ns = waypoints.start_ns + times_ns[-1]
    if end_ns <= now_ns:
        raise TrajectoryError(f"the trajectory ended {(now_ns - end_ns) * 1e-9:.3f} s ago")


class TrajectoryFollower:
    """The desired positions over time, as each trajectory replaces the one before."""

    def __init__(self, positions: np.ndarray) -> None:
        """Take the positions [joints] to hold until the first trajectory."""
        self._hold = positions.astype(np.float64)
        self._times_ns = np.empty(0, np.int64)
        self._positions = np.empty((0, len(positions)))
        self._velocities: np.ndarray | None = None

    def replace(self, waypoints: Waypoints, now_ns: int) -> None:
        """Follow `waypoints` from the desired state at `now_ns`; points in the past are skipped.

        Raises:
            TrajectoryError: see `check_trajectory`; the trajectory before is still followed.
        """
        check_trajectory(waypoints, now_ns)
        position, velocity = self.sample(now_ns)
        times_ns = waypoints.start_ns + waypoints.times_ns
        ahead = times_ns > now_ns
        self._hold = position
        self._times_ns = np.concatenate([[now_ns], times_ns[ahead]])
        self._positions = np.concatenate([position[None], waypoints.positions[ahead]])
        self._velocities = None
        if waypoints.velocities is not None:
            self._velocities = np.concatenate([velocity[None], waypoints.velocities[ahead]])

    def sample(self, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return desired positions and velocities [joints] at `now_ns`."""
        still = np.zeros_like(self._hold)
        if len(self._times_ns) == 0 or now_ns < self._times_ns[0]:
            return self._hold, still
        if now_ns >= self._times_ns[-1]:
            return self._positions[-1], still
        point = int(np.searchsorted(self._times_ns, now_ns, side="right")) - 1
        duration = (self._times_ns[point + 1] - self._times_ns[point]) * 1e-9
        fraction = (now_ns - self._times_ns[point]) * 1e-9 / duration
        p0, p1 = self._positions[point], self._positions[point + 1]
        if self._velocities is None:
            return p0 + fraction * (p1 - p0), (p1 - p0) / duration
        return _hermite(p0, p1, self._velocities[point], self._velocities[point + 1], fraction, duration)


def _hermite(
    p0: np.ndarray, p1: np.ndarray, v0: np.ndarray, v1: np.ndarray, fraction: float, duration: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return position and velocity on the cubic from p0, v0 to p1, v1, at a fraction of its duration (seconds)."""
    u, u2, u3 = fraction, fraction**2, fraction**3
    position = (2 * u3 - 3 * u2 + 1) * p0 + (3 * u2 - 2 * u3) * p1
    position = position + duration * ((u3 - 2 * u2 + u) * v0 + (u3 - u2) * v1)
    velocity = (6 * u2 - 6 * u) * (p0 - p1) / duration + (3 * u2 - 4 * u + 1) * v0 + (3 * u2 - 2 * u) * v1
    return position, velocity


def trajectory_from_message(message: Any, joint_names: Sequence[str], now_ns: int) -> Waypoints:
    """Return the points of a JointTrajectory, joints in the order of `joint_names`; a zero stamp means now.

    Raises:
        TrajectoryError: names or sizes do not fit.
    """
    check_joint_names(message.joint_names, joint_names)
    order = [list(message.joint_names).index(name) for name in joint_names]
    points = message.points
    for index, point in enumerate(points):
        sizes = {len(point.positions), len(point.velocities) or len(joint_names)}
        if sizes != {len(joint_names)} or bool(point.velocities) != bool(points[0].velocities):
            raise TrajectoryError(
                f"point {index} has {len(point.positions)} positions, {len(point.velocities)} velocities"
            )
    velocities = np.array([point.velocities for point in points]) if points and points[0].velocities else None
    times_ns = [nanoseconds(point.time_from_start) for point in points]
    return Waypoints(
        start_ns=nanoseconds(message.header.stamp) or now_ns,
        times_ns=np.array(times_ns, np.int64),
        positions=np.array([point.positions for point in points]).reshape(-1, len(joint_names))[:, order],
        velocities=None if velocities is None else velocities[:, order],
    )
