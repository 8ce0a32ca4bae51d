"""Motion on a time grid with bounded position, velocity and acceleration.

Each joint is a double integrator whose acceleration is constant during a step of length T:

    x' = x + (v + v') T / 2        |v'| <= V,  |v' - v| <= A T

Between the grid points the motion is thus the cubic (here a parabola) that a joint trajectory controller interpolates
from positions and velocities: what holds on the grid holds at every moment.

Braking as hard as allowed from the speed v takes q = floor(v / (A T)) steps at A and a last one that ends at rest, and
covers the distance

    D(v) = (q + 1/2) v T - q (q + 1) / 2 A T^2

which is continuous, convex and increasing. Consider the states from which braking stops the joint before its position
limits: x + D(max(v, 0)) <= max and x - D(max(-v, 0)) >= min. With each state, this set also contains the state after
one braking step. The next velocities that keep the joint in the set therefore form an interval that is never empty and
that meets the bounds on velocity and acceleration, since the braking step satisfies these too. `track` takes from that
interval the velocity closest to the one it aims for. A joint that starts outside a limit may not move further out.
"""

from __future__ import annotations

import numpy as np

from pi0_ttnn_ros.execution.safety import Limits


def stop_distance(speed: np.ndarray, max_acceleration: np.ndarray, period: float) -> np.ndarray:
    """Return D(speed), the distance until the joints are at rest when they brake as hard as allowed."""
    steps = np.floor(speed / (max_acceleration * period))
    return (steps + 0.5) * speed * period - steps * (steps + 1) / 2 * max_acceleration * period**2


def approach_speed(distance: np.ndarray, max_acceleration: np.ndarray, period: float) -> np.ndarray:
    """Return the speed v' >= 0 for which v' T / 2 + D(v') = `distance` >= 0.

    A joint that has this speed at the end of a step and brakes from there covers `distance` in addition to v T / 2.
    """
    unit = max_acceleration * period**2
    steps = np.floor((np.sqrt(1 + 8 * distance / unit) - 1) / 2)
    return (distance + steps * (steps + 1) / 2 * unit) / ((steps + 1) * period)


def track(
    position: np.ndarray,
    velocity: np.ndarray,
    target_position: np.ndarray,
    target_velocity: np.ndarray,
    limits: Limits,
    period: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return position and velocity [joints] one step of `period` seconds after `position` and `velocity`.

    The target is where to be, and how fast, at the end of the step. In the target's moving frame the joint approaches
    as fast as it can still brake, so it does not overshoot a target of constant velocity.
    """
    acceleration = limits.max_acceleration
    clamped_target = np.clip(target_position, limits.position_min, limits.position_max)
    position_error = clamped_target - position - (velocity + target_velocity) * period / 2
    # The position limits, widened to where a joint that is outside them would stop.
    stop = stop_distance(np.abs(velocity), acceleration, period)
    upper = np.maximum(limits.position_max, position + np.where(velocity > 0, stop, 0))
    lower = np.minimum(limits.position_min, position - np.where(velocity < 0, stop, 0))
    coast_position = position + velocity * period / 2
    distances = np.stack(
        [np.abs(position_error), np.maximum(upper - coast_position, 0), np.maximum(coast_position - lower, 0)]
    )
    closing, up, down = approach_speed(distances, acceleration, period)

    speed = target_velocity + np.sign(position_error) * closing
    speed = np.maximum(np.minimum(speed, np.minimum(up, limits.max_velocity)), np.maximum(-down, -limits.max_velocity))
    # Last, so that neither rounding nor a lowered velocity limit can exceed the acceleration limit.
    change = acceleration * period
    speed = np.maximum(np.minimum(speed, velocity + change), velocity - change)
    return position + (velocity + speed) * period / 2, speed


def brake(
    position: np.ndarray, velocity: np.ndarray, max_acceleration: np.ndarray, period: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and velocities [steps, joints] of the steps until all joints are at rest; none if they are."""
    count = int(np.ceil(np.max(np.abs(velocity) / (max_acceleration * period)) - 1e-9))
    lost = max_acceleration * period * np.arange(1, count + 1)[:, None]
    velocities = np.sign(velocity) * np.maximum(np.abs(velocity) - lost, 0)
    velocities[-1:] = 0
    before = np.concatenate([velocity[None], velocities])[:-1]
    return position + np.cumsum((before + velocities) * period / 2, axis=0), velocities
