"""Motion on a grid of time steps with bounded position, velocity and acceleration. Knows nothing of ROS.

Each joint is a double integrator whose acceleration is constant during a step of length T:

    x' = x + (v + v') T / 2        |v'| <= V,  |v' - v| <= A T

so that between the grid points the motion is the cubic (here a parabola) which a joint trajectory controller makes of
positions and velocities: what holds here holds at every moment.

Braking as hard as allowed from the speed v takes q = floor(v / (A T)) steps at A and a last one that ends at rest, and
covers the distance

    D(v) = (q + 1/2) v T - q (q + 1) / 2 A T^2

which is continuous, convex and increasing. The states from which the brakes stop the joint before its position limits,
x + D(max(v, 0)) <= max and x - D(max(-v, 0)) >= min, contain for each of their members the state after one braking
step. So the set of next velocities that keep the joint in there is an interval that is never empty, and it meets the
bounds of velocity and acceleration, which the braking step fulfils too. `track` takes from that interval the velocity
that comes closest to what is wanted. A joint that starts outside of a limit may not go further out.
"""

from __future__ import annotations

import numpy as np

from pi0_ttnn_ros.execution.safety import Limits


def stop_distance(speed: np.ndarray, max_acceleration: np.ndarray, period: float) -> np.ndarray:
    """Return D(speed), the way until the joints rest when they brake as hard as allowed."""
    steps = np.floor(speed / (max_acceleration * period))
    return (steps + 0.5) * speed * period - steps * (steps + 1) / 2 * max_acceleration * period**2


def approach_speed(distance: np.ndarray, max_acceleration: np.ndarray, period: float) -> np.ndarray:
    """Return the speed v' >= 0 for which v' T / 2 + D(v') = `distance` >= 0.

    A joint that has this speed at the end of a step, and brakes from there, has made `distance` beyond v T / 2.
    """
    unit = max_acceleration * period**2
    steps = np.floor((np.sqrt(1 + 8 * distance / unit) - 1) / 2)
    return (distance + steps * (steps + 1) / 2 * unit) / ((steps + 1) * period)


def track(
    position: np.ndarray,
    velocity: np.ndarray,
    wanted: np.ndarray,
    wanted_velocity: np.ndarray,
    limits: Limits,
    period: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return position and velocity [joints] one step of `period` seconds after `position` and `velocity`.

    They go for `wanted` and `wanted_velocity`, the aim at the end of the step: in its moving frame the joint comes in
    as fast as it can still brake, and so does not overshoot an aim that moves evenly.
    """
    acceleration = limits.max_acceleration
    inside = np.clip(wanted, limits.position_min, limits.position_max)
    missing = inside - position - (velocity + wanted_velocity) * period / 2
    # The position limits, widened to where a joint that is outside would stop.
    stop = stop_distance(np.abs(velocity), acceleration, period)
    top = np.maximum(limits.position_max, position + np.where(velocity > 0, stop, 0))
    bottom = np.minimum(limits.position_min, position - np.where(velocity < 0, stop, 0))
    coasting = position + velocity * period / 2
    ways = np.stack([np.abs(missing), np.maximum(top - coasting, 0), np.maximum(coasting - bottom, 0)])
    closing, up, down = approach_speed(ways, acceleration, period)

    speed = wanted_velocity + np.sign(missing) * closing
    speed = np.maximum(np.minimum(speed, np.minimum(up, limits.max_velocity)), np.maximum(-down, -limits.max_velocity))
    # Last, so that rounding or a lowered velocity limit never costs more than the acceleration allows.
    change = acceleration * period
    speed = np.maximum(np.minimum(speed, velocity + change), velocity - change)
    return position + (velocity + speed) * period / 2, speed


def brake(
    position: np.ndarray, velocity: np.ndarray, max_acceleration: np.ndarray, period: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and velocities [steps, joints] of the steps until all joints rest; no step where they do."""
    count = int(np.ceil(np.max(np.abs(velocity) / (max_acceleration * period)) - 1e-9))
    lost = max_acceleration * period * np.arange(1, count + 1)[:, None]
    velocities = np.sign(velocity) * np.maximum(np.abs(velocity) - lost, 0)
    velocities[-1:] = 0
    before = np.concatenate([velocity[None], velocities])[:-1]
    return position + np.cumsum((before + velocities) * period / 2, axis=0), velocities
