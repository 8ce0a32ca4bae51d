"""Joint limits, and the checks that every action passes before it leaves the node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The position limits of a joint that turns without end, rad.
CONTINUOUS = 1e6
LIMIT_POLICIES = ("clamp", "reject")

# Quantity -> its values [..., points, joints], and its lower and upper limit [joints].
Bounded = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


class SafetyError(ValueError):
    """Actions that must not be executed; the message names the joint, the value and the limit."""


@dataclass(frozen=True)
class Limits:
    """Limits of each joint. In m instead of rad for prismatic joints.

    Attributes:
        joint_names: order of the joints in all arrays.
        position_min: float64 [joints], rad; -CONTINUOUS for a joint that turns without end.
        position_max: float64 [joints], rad; CONTINUOUS for such a joint.
        max_velocity: float64 [joints], rad/s.
        max_acceleration: float64 [joints], rad/s^2.
    """

    joint_names: tuple[str, ...]
    position_min: np.ndarray
    position_max: np.ndarray
    max_velocity: np.ndarray
    max_acceleration: np.ndarray

    @property
    def continuous(self) -> np.ndarray:
        """Which joints turn without end, bool [joints]."""
        return (self.position_min <= -CONTINUOUS) & (self.position_max >= CONTINUOUS)


def check_finite(label: str, values: np.ndarray, joint_names: tuple[str, ...]) -> None:
    """Check that `values` [..., joints] are finite. Must be the first check: NaN passes every clamp.

    Raises:
        SafetyError: naming the first joint with a value that is NaN or infinite.
    """
    bad = ~np.isfinite(values)
    if bad.any():
        joint = int(np.argwhere(bad)[0][-1])
        raise SafetyError(f"{label}: values of joint {joint_names[joint]!r} are not finite; nothing was sent")


def check_actions(actions: np.ndarray, time_step: float, limits: Limits) -> None:
    """Check that actions [points, joints], `time_step` seconds apart, are within the limits (limit policy "reject").

    Raises:
        SafetyError: naming the first joint and action that exceed a limit.
    """
    for label, (values, low, high) in _action_quantities(actions, time_step, limits).items():
        outside = (values < low) | (values > high)
        if outside.any():
            action, joint = np.argwhere(outside)[0]
            raise SafetyError(
                f"chunk rejected: {label} {values[action, joint]:.3f} of joint {limits.joint_names[joint]!r} at action "
                f"{action} is outside {low[joint]:g} to {high[joint]:g}"
            )


def broken_limits(actions: np.ndarray, time_step: float, limits: Limits) -> dict[str, np.ndarray]:
    """Return for position, velocity and acceleration which joints of actions [..., points, joints] exceed that limit.

    Each is bool [..., joints] and true where `check_actions` would reject the actions. NaN exceeds no limit.
    """
    quantities = _action_quantities(actions, time_step, limits)
    return {label: ((values < low) | (values > high)).any(axis=-2) for label, (values, low, high) in quantities.items()}


def check_jump(label: str, position: np.ndarray, measured: np.ndarray, limits: Limits, max_jump_time: float) -> None:
    """Check that `position` [joints] is not too far from where the robot is measured.

    Too far is what a joint at its maximum velocity cannot cover in `max_jump_time` seconds.

    Raises:
        SafetyError: naming the joint that is farthest off.
    """
    excess = jump_excess(position, measured, limits, max_jump_time)
    joint = int(np.argmax(excess))
    if excess[joint] > 0:
        raise SafetyError(
            f"{label} is {position[joint] - measured[joint]:+.3f} from the measured position of joint "
            f"{limits.joint_names[joint]!r} ({measured[joint]:.3f}); "
            f"max_jump_time allows {limits.max_velocity[joint] * max_jump_time:.3f}"
        )


def jump_excess(position: np.ndarray, measured: np.ndarray, limits: Limits, max_jump_time: float) -> np.ndarray:
    """Return by how much the distance of `position` [..., joints] from `measured` exceeds the allowed one, rad or m."""
    return np.abs(position - measured) - limits.max_velocity * max_jump_time


def limited_quantities(
    positions: np.ndarray, velocities: np.ndarray, accelerations: np.ndarray, limits: Limits
) -> Bounded:
    """Return the quantities of a motion [..., points, joints] that have limits, with these limits."""
    return {
        "position": (positions, limits.position_min, limits.position_max),
        "velocity": (velocities, -limits.max_velocity, limits.max_velocity),
        "acceleration": (accelerations, -limits.max_acceleration, limits.max_acceleration),
    }


def _action_quantities(actions: np.ndarray, time_step: float, limits: Limits) -> Bounded:
    velocities = np.diff(actions, axis=-2) / time_step
    return limited_quantities(actions, velocities, np.diff(velocities, axis=-2) / time_step, limits)
