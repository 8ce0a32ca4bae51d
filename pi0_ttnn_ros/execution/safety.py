"""Limits, and what must never be executed: nothing leaves the node without passing here. Knows nothing of ROS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LIMIT_POLICIES = ("clamp", "reject")

# Values, lower and upper limit, by what they are of.
Bounded = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


class SafetyError(ValueError):
    """Actions that must not be executed; the message names the joint, the value and the limit."""


@dataclass(frozen=True)
class Limits:
    """Limits of each joint, float64 [joints]: rad, rad/s and rad/s^2 (m, m/s and m/s^2 for prismatic joints)."""

    joint_names: tuple[str, ...]
    position_min: np.ndarray
    position_max: np.ndarray
    max_velocity: np.ndarray
    max_acceleration: np.ndarray


def check_finite(label: str, values: np.ndarray, joint_names: tuple[str, ...]) -> None:
    """Raise SafetyError where one of `values` [..., joints] is NaN or infinite. First of all: NaN passes clamps."""
    bad = ~np.isfinite(values)
    if bad.any():
        joint = int(np.argwhere(bad)[0][-1])
        raise SafetyError(f"{label}: values of joint {joint_names[joint]!r} are not finite; nothing was sent")


def check_actions(actions: np.ndarray, time_step: float, limits: Limits) -> None:
    """Refuse actions [points, joints], `time_step` seconds apart, that themselves break a limit (policy "reject").

    Raises:
        SafetyError: naming the first joint and action that does.
    """
    for label, (values, low, high) in _action_quantities(actions, time_step, limits).items():
        outside = (values < low) | (values > high)
        if outside.any():
            action, joint = np.argwhere(outside)[0]
            raise SafetyError(
                f"chunk refused: {label} {values[action, joint]:.3f} of joint {limits.joint_names[joint]!r} at action "
                f"{action} is outside of {low[joint]:g} to {high[joint]:g}"
            )


def broken_limits(actions: np.ndarray, time_step: float, limits: Limits) -> dict[str, np.ndarray]:
    """Return for position, velocity and acceleration which joints of actions [..., points, joints] break that limit.

    Of each bool [..., joints]: those of which `check_actions` refuses one. What is NaN breaks none.
    """
    of_actions = _action_quantities(actions, time_step, limits)
    return {label: ((values < low) | (values > high)).any(axis=-2) for label, (values, low, high) in of_actions.items()}


def check_jump(label: str, position: np.ndarray, measured: np.ndarray, limits: Limits, max_jump_time: float) -> None:
    """Refuse to go on from `position` [joints] when the robot is measured too far away from it.

    Too far is what a joint at its maximum velocity cannot cover in `max_jump_time` seconds.

    Raises:
        SafetyError: naming the joint that is the farthest off.
    """
    excess = jump_excess(position, measured, limits, max_jump_time)
    joint = int(np.argmax(excess))
    if excess[joint] > 0:
        raise SafetyError(
            f"{label} is {position[joint] - measured[joint]:+.3f} from where joint {limits.joint_names[joint]!r} is "
            f"measured ({measured[joint]:.3f}); max_jump_time allows {limits.max_velocity[joint] * max_jump_time:.3f}"
        )


def jump_excess(position: np.ndarray, measured: np.ndarray, limits: Limits, max_jump_time: float) -> np.ndarray:
    """Return how much further than allowed `position` [..., joints] is from `measured`; rad or m, above 0: too far."""
    return np.abs(position - measured) - limits.max_velocity * max_jump_time


def limited_quantities(
    positions: np.ndarray, velocities: np.ndarray, accelerations: np.ndarray, limits: Limits
) -> Bounded:
    """Return what of a motion has limits, by its name: values [..., points, joints], lower and upper limit [joints]."""
    return {
        "position": (positions, limits.position_min, limits.position_max),
        "velocity": (velocities, -limits.max_velocity, limits.max_velocity),
        "acceleration": (accelerations, -limits.max_acceleration, limits.max_acceleration),
    }


def _action_quantities(actions: np.ndarray, time_step: float, limits: Limits) -> Bounded:
    velocities = np.diff(actions, axis=-2) / time_step
    return limited_quantities(actions, velocities, np.diff(velocities, axis=-2) / time_step, limits)
