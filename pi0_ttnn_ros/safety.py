"""Limits: nothing leaves the node without passing here. Knows nothing of ROS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class SafetyError(ValueError):
    """Actions that must not be executed."""


@dataclass(frozen=True)
class Limits:
    """Limits of each joint, float64 [joints]: positions in rad or m, velocities in rad/s or m/s."""

    position_min: np.ndarray
    position_max: np.ndarray
    max_velocity: np.ndarray


def limit_positions(positions: np.ndarray, start: np.ndarray, steps: np.ndarray, limits: Limits) -> np.ndarray:
    """Return `positions` within the limits, moving from `start` no faster than allowed.

    Args:
        positions: [points, joints], the wanted motion.
        start: [joints], where the robot is commanded to be before the first point.
        steps: [points], seconds from each point's predecessor to it.
    Returns:
        float64 [points, joints]. From a start outside of the limits the way leads back inside.
    Raises:
        SafetyError: a value is not finite. This is asked first: NaN passes through any clamp.
    """
    if not (np.isfinite(positions).all() and np.isfinite(start).all()):
        raise SafetyError("the actions or the joint states have values that are not finite; nothing was sent")
    limited = np.empty(positions.shape, np.float64)
    previous = start
    for point, (wanted, step) in enumerate(zip(positions, steps, strict=True)):
        reach = limits.max_velocity * step
        inside = np.clip(wanted, limits.position_min, limits.position_max)
        previous = limited[point] = np.clip(inside, previous - reach, previous + reach)
    return limited
