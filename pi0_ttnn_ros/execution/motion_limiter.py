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
interval the velocity closest to the one it aims for. A joint that starts outside of a limit does not move further out
than braking takes; once it is inside, it is in the set and stays there.
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
    steps = np.floor(np.sqrt(0.25 + distance * (2 / unit)) - 0.5)
    next_step = steps + 1
    return (distance + steps * next_step * (unit / 2)) / (next_step * period)


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
    # np.clip and np.stack take several times as long for so few joints.
    clamped_target = np.minimum(np.maximum(target_position, limits.position_min), limits.position_max)
    coast_position = position + velocity * (period / 2)
    position_error = clamped_target - coast_position - target_velocity * (period / 2)
    distances = np.empty((3, len(position)))
    np.abs(position_error, out=distances[0])
    np.subtract(limits.position_max, coast_position, out=distances[1])
    np.subtract(coast_position, limits.position_min, out=distances[2])
    np.maximum(distances, 0, out=distances)
    closing, up, down = approach_speed(distances, limits.max_acceleration, period)

    speed = target_velocity + np.sign(position_error) * closing
    speed = np.maximum(np.minimum(speed, np.minimum(up, limits.max_velocity)), -np.minimum(down, limits.max_velocity))
    # Last, so that neither rounding nor a lowered velocity limit can exceed the acceleration limit.
    change = limits.max_acceleration * period
    speed = np.maximum(np.minimum(speed, velocity + change), velocity - change)
    return coast_position + speed * (period / 2), speed


def brake_step(
    position: np.ndarray, velocity: np.ndarray, max_acceleration: np.ndarray, period: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return position and velocity [joints] after one step of braking as hard as allowed."""
    speed = np.sign(velocity) * np.maximum(np.abs(velocity) - max_acceleration * period, 0)
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
