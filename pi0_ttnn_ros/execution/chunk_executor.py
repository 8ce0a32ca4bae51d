"""Overlapping chunks -> one continuous motion.

The motion lives on a grid of GRID_NS. What was planned up to FROZEN_NS from now never changes, because the controller
may already be executing it: a new chunk or a late call only affects what comes after, and a hold what comes after the
next grid point. The motion is therefore continuous whatever the latencies are, and each step of it is within the limits
(see `motion_limiter`). Every plan ends at rest: if no further plan arrives, the robot stops.

A motion that starts from rest starts where the robot is, see `rest_anchor`. Joints that are commanded by single
positions do not follow a plan by themselves: where the next plan is late, their motion starts again from rest at the
last position that they were commanded.

Action i of a chunk is meant for the observation's stamp + i * time_step, except with the strategy "synchronous", where
the robot rests during inference and action 0 is meant for the moment at which the chunk arrives.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_core.rtc import GuidanceTarget, soft_mask
from pi0_ttnn_ros.execution.motion_limiter import brake, brake_step, track
from pi0_ttnn_ros.execution.rest_anchor import RestAnchor
from pi0_ttnn_ros.execution.safety import Limits, SafetyError, check_actions, check_finite, check_jump
from pi0_ttnn_ros.execution.turns import nearest_turn, unwrapped

STRATEGIES = ("synchronous", "asynchronous", "blended", "rtc")

# One step of the limiter, whatever the command rate is: a hold must not take longer at a low rate.
GRID_NS = 10_000_000
# What is planned up to this far ahead stays as it is: a plan needs that long to reach the controller. Not for a hold:
# smoothed, it begins gently, and a controller that receives it late is only a little ahead of it.
FROZEN_NS = 40_000_000
# How far ahead a plan follows the chunks. If no further plan arrives, the robot stops from there.
PLAN_AHEAD_NS = 200_000_000
# Limiter steps that are averaged: the acceleration changes by at most 2 / SMOOTHING_WINDOW of its limit per step.
SMOOTHING_WINDOW = 4
# Steps of the limiter before the current one that are kept: the smoothing of the grid point before it needs them.
HISTORY = SMOOTHING_WINDOW
# A plan that comes so much later than a period after the last one is late: the stepped joints have come to rest.
LATE_NS = 5_000_000
VELOCITY_EPSILON = 1e-9  # rad/s (m/s); anything slower is rounding and counts as rest
POSITION_EPSILON = 1e-9  # rad (m)
LATENCY_WINDOW = 100  # chunks over which the 95th percentile of the latency is taken


@dataclass(frozen=True)
class Execution:
    """How chunks are executed.

    Attributes:
        strategy: one of STRATEGIES.
        time_step: seconds between two actions.
        period: seconds between two plans.
        max_chunk_age: seconds after its observation from which no action of a chunk is executed.
        max_jump_time: seconds, see `safety.check_jump`.
        limit_policy: one of `safety.LIMIT_POLICIES`.
        execution_horizon: actions of a chunk that "synchronous" executes before it infers again; 0 for all.
        ensemble_coefficient: "blended" weights the n-th oldest chunk by exp(-coefficient * n) (Zhao et al. 2023, ACT).
        stepped_joints: indices of the joints that are commanded by single positions, see `Plan.next_positions`.
    """

    strategy: str
    time_step: float
    period: float
    max_chunk_age: float
    max_jump_time: float
    limit_policy: str = "clamp"
    execution_horizon: int = 0
    ensemble_coefficient: float = 0.01
    stepped_joints: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A motion on the grid that ends at rest.

    Attributes:
        now_ns: time at which it was made.
        next_ns: time at which the next one is due, one period later.
        stamp_ns: time of the first point, which is the last grid point that has passed.
        times_ns: int64 [points], counted from the stamp, strictly increasing from 0.
        positions: float64 [points, joints], rad (m for prismatic joints).
        velocities: float64 [points, joints], rad/s (m/s); the last one is zero.
        next_positions: float64 [joints], where to be at `next_ns`: the command to a controller that takes single
            positions.
    """

    now_ns: int
    next_ns: int
    stamp_ns: int
    times_ns: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    next_positions: np.ndarray

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves in it."""
        return not self.velocities.any()

    @property
    def end_ns(self) -> int:
        """The time at which the motion has come to rest."""
        return self.stamp_ns + int(self.times_ns[-1])


@dataclass(frozen=True)
class _ScheduledChunk:
    """A chunk on the time line: action i is meant for start_ns + i * step_ns.

    Attributes:
        actions: float64 [horizon, joints], rad or m.
        start_ns: time of action 0.
        step_ns: time between two actions.
        entry_ns: the chunk is followed from here on.
        expiry_ns: the chunk is followed up to here.
    """

    actions: np.ndarray
    start_ns: int
    step_ns: int
    entry_ns: int
    expiry_ns: int

    @property
    def end_ns(self) -> int:
        """Time of the last action."""
        return self.start_ns + self.step_ns * (len(self.actions) - 1)

    def at(self, times_ns: np.ndarray) -> np.ndarray:
        """Return the actions at `times_ns` [n] as [n, joints]: linear in between, the last one after the end."""
        index = np.clip((times_ns - self.start_ns) / self.step_ns, 0, len(self.actions) - 1)
        before = np.floor(index).astype(np.int64)
        after = np.minimum(before + 1, len(self.actions) - 1)
        fraction = (index - before)[:, None]
        return self.actions[before] * (1 - fraction) + self.actions[after] * fraction


def _smoothed(rows: np.ndarray) -> np.ndarray:
    """Return the means of SMOOTHING_WINDOW consecutive rows."""
    count = len(rows) - SMOOTHING_WINDOW + 1
    total = rows[:count].copy()
    for shift in range(1, SMOOTHING_WINDOW):
        total += rows[shift : shift + count]
    return total / SMOOTHING_WINDOW


def _position_at(elapsed_ns: int, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """Return where a motion [points, joints] on the grid is `elapsed_ns` after its first point."""
    row = min(max(0, elapsed_ns // GRID_NS), len(positions) - 2)
    elapsed = min((elapsed_ns - row * GRID_NS) * 1e-9, GRID_NS * 1e-9)
    acceleration = (velocities[row + 1] - velocities[row]) / (GRID_NS * 1e-9)
    return positions[row] + velocities[row] * elapsed + acceleration * elapsed**2 / 2


class ChunkExecutor:
    """The motion that is being executed and the chunks that it follows. Not thread-safe."""

    def __init__(self, limits: Limits, execution: Execution) -> None:
        """Start with no motion: the first chunk starts from the measured positions."""
        self._limits = limits
        self._execution = execution
        self._period_ns = round(execution.period * 1e9)
        self._stepped = np.isin(np.arange(len(limits.joint_names)), execution.stepped_joints)
        self._max_age_ns = round(execution.max_chunk_age * 1e9)
        self._chunks: list[_ScheduledChunk] = []
        self._latencies_ns: deque[int] = deque(maxlen=LATENCY_WINDOW)
        self._speed_scaling = 1.0
        # The limiter's states: row i is at _start_ns + i * GRID_NS. None until something is commanded.
        self._positions: np.ndarray | None = None
        self._velocities = np.empty((0, 0))
        self._start_ns = 0
        self._planned_at_ns = 0
        # The rows up to here follow the chunks; those after _frozen_ns are planned again only if something `_changed`.
        self._followed_until_ns = 0
        self._changed = True
        self._frozen_ns = FROZEN_NS
        # Where the stepped joints were commanded to be last, and the time for which this was planned.
        self._next_positions = np.empty(0)
        self._commanded_until_ns = 0
        self._measured: tuple[np.ndarray, int] | None = None
        self._rest = RestAnchor(limits)

    @property
    def speed_scaling(self) -> float:
        """Factor on the speed of chunks added from now on, and on the velocity limits at once."""
        return self._speed_scaling

    @speed_scaling.setter
    def speed_scaling(self, scaling: float) -> None:
        self._speed_scaling = scaling
        if not self._changed:
            self._plan_again()

    @property
    def latency_ns(self) -> int:
        """The 95th percentile of the chunks' ages when they were ready; 0 before the first chunk."""
        return int(np.percentile(self._latencies_ns, 95)) if self._latencies_ns else 0

    def observe(self, measured: np.ndarray, stamp_ns: int) -> None:
        """Take the newest measured positions [joints], rad or m, finite, and their time, for the next plan."""
        self._measured = self._in_turn(measured, stamp_ns), stamp_ns

    def add(self, chunk: ActionChunk, measured: np.ndarray, now_ns: int) -> None:
        """Follow a chunk that is ready at `now_ns`; `measured` [joints] is where the robot is.

        Raises:
            SafetyError: a value is not finite, the chunk is too old or already over, its first action or the robot is
                too far off, or it exceeds a limit and the limit policy is to reject. The motion so far is unchanged.
        """
        limits, execution = self._limits, self._execution
        check_finite("the measured joints", measured, limits.joint_names)
        check_finite("the actions", chunk.actions, limits.joint_names)
        scheduled = self._schedule(chunk, now_ns)
        if execution.limit_policy == "reject":
            check_actions(scheduled.actions, execution.time_step, limits)
        measured = self._in_turn(measured, now_ns)
        first = scheduled.at(np.array([scheduled.entry_ns]))[0]
        turns = nearest_turn(first, measured, limits.continuous) - first
        scheduled = replace(scheduled, actions=scheduled.actions + turns)
        clamped = np.clip(first + turns, limits.position_min, limits.position_max)
        check_jump("the first action", clamped, measured, limits, execution.max_jump_time)
        if self._positions is None:
            self._start_at(measured, now_ns)
        self._check_tracking(measured, now_ns)
        self._latencies_ns.append(max(0, now_ns - chunk.stamp_ns))
        self._chunks.append(scheduled)
        self._plan_again()

    def hold(self) -> None:
        """Stop as fast as the limits allow, and stay there."""
        if self._chunks:
            self._chunks.clear()
            self._changed, self._frozen_ns = True, 0

    def reset(self) -> None:
        """Forget what was commanded: somebody else may have moved the robot since."""
        self._chunks.clear()
        self._positions = None
        self._rest = RestAnchor(self._limits)

    def wants_chunk(self, now_ns: int) -> bool:
        """Return whether to infer at `now_ns`: with "synchronous" only once the last chunk has been executed."""
        if self._execution.strategy != "synchronous" or not self._chunks or self._positions is None:
            return True
        braking = self._limits.max_acceleration * GRID_NS * 1e-9
        velocities = self._velocities[self._row(now_ns)]
        return now_ns >= self._chunks[-1].end_ns and bool((np.abs(velocities) <= braking).all())

    def guidance_target(self, stamp_ns: int, state: np.ndarray) -> GuidanceTarget | None:
        """Return what a chunk from an observation at `stamp_ns` must agree with; None if nothing is executed then.

        These are the earlier chunk's actions at the new chunk's steps, frozen as far as they will have been executed
        by the time the new chunk takes over, in the turn of `state`, the joint positions that the policy sees.
        """
        if not self._chunks:
            return None
        chunk = self._chunks[-1]
        horizon = len(chunk.actions)
        times_ns = stamp_ns + chunk.step_ns * np.arange(horizon, dtype=np.int64)
        overlap = int(np.count_nonzero(times_ns <= chunk.end_ns))
        if overlap == 0:
            return None
        num_frozen = min(overlap, -(-(self.latency_ns + FROZEN_NS) // chunk.step_ns))
        actions = chunk.at(times_ns)
        actions += nearest_turn(actions[0], state, self._limits.continuous) - actions[0]
        return GuidanceTarget(actions.astype(np.float32), soft_mask(horizon, num_frozen, overlap))

    def plan(self, now_ns: int, followed_until_ns: int = 0) -> Plan | None:
        """Return the motion from `now_ns` on; None if nothing was commanded yet.

        Meant to be called once a period; if the call is late, the robot has been following the last plan, but for the
        stepped joints, which have stayed at the last `next_positions`.

        Args:
            now_ns: the time.
            followed_until_ns: up to when the robot may have followed the last plan, if it may be later than `now_ns`.
        """
        if self._positions is None:
            return None
        if now_ns < self._planned_at_ns - FROZEN_NS:
            self._on_clock_reset(now_ns)
            followed_until_ns = 0
        self._planned_at_ns = now_ns
        current, fixed = self._trim(now_ns, followed_until_ns)
        if not self._moves:
            start = self._rest.start_positions(self._positions[-1], self._measured, now_ns)
            self._measured = None  # it holds for this moment only
            if self._chunks and (start != self._positions[-1]).any():
                self._start_at(start, now_ns)
                current, fixed = self._trim(now_ns)
        self._extend(fixed, now_ns)
        if self._moves:
            self._rest.leave()
        # From the grid point before the current one: a command that is a little late lies between the two.
        positions = _smoothed(self._positions)[current - HISTORY :]
        velocities = _smoothed(self._velocities)[current - HISTORY :]
        velocities = np.where(np.abs(velocities) < VELOCITY_EPSILON, 0.0, velocities)
        stamp_ns = self._start_ns + current * GRID_NS
        # Two commands are never farther apart on the plan than a period, however unevenly they are sent.
        next_ns = min(now_ns, self._commanded_until_ns) + self._period_ns
        self._commanded_until_ns = max(next_ns, self._commanded_until_ns)
        self._next_positions = _position_at(self._commanded_until_ns - stamp_ns + GRID_NS, positions, velocities)
        times_ns = GRID_NS * np.arange(len(positions) - 1, dtype=np.int64)
        return Plan(
            now_ns,
            now_ns + self._period_ns,
            stamp_ns,
            times_ns,
            positions[1:],
            velocities[1:],
            self._next_positions,
        )

    def _schedule(self, chunk: ActionChunk, now_ns: int) -> _ScheduledChunk:
        execution = self._execution
        step_ns = round(execution.time_step * 1e9 / self.speed_scaling)
        age_ns = now_ns - chunk.stamp_ns
        if abs(age_ns) > self._max_age_ns:
            raise SafetyError(
                f"the chunk was {age_ns * 1e-9:.2f} s old when it was ready, "
                f"max_chunk_age is {execution.max_chunk_age:g} s"
            )
        if execution.strategy == "synchronous":
            start_ns = entry_ns = now_ns + FROZEN_NS
            actions = chunk.actions[: execution.execution_horizon or None]
        else:
            start_ns, actions = chunk.stamp_ns, chunk.actions
            entry_ns = max(now_ns, chunk.stamp_ns + self.latency_ns)
        expiry_ns = chunk.stamp_ns + self._max_age_ns
        actions = unwrapped(actions.astype(np.float64), self._limits.continuous)
        scheduled = _ScheduledChunk(actions, start_ns, step_ns, entry_ns, expiry_ns)
        if scheduled.end_ns <= now_ns:
            raise SafetyError(
                f"the chunk was {age_ns * 1e-9:.2f} s old when it was ready, longer than its {len(actions)} steps "
                f"last: nothing of it is left to execute"
            )
        return scheduled

    def _check_tracking(self, measured: np.ndarray, now_ns: int) -> None:
        """Check that a robot in motion is where it was commanded to be; one at rest others may have moved.

        Raises:
            SafetyError: the robot moves and is too far from where it was commanded to be.
        """
        assert self._positions is not None
        row = self._row(now_ns)
        if self._velocities[row:].any():
            max_jump_time = self._execution.max_jump_time
            check_jump("the commanded position", self._positions[row], measured, self._limits, max_jump_time)

    def _in_turn(self, measured: np.ndarray, now_ns: int) -> np.ndarray:
        """Return measured positions in the turns of the motion, float64 [joints]."""
        measured = measured.astype(np.float64)
        if self._positions is None:
            return measured
        return nearest_turn(measured, self._positions[self._row(now_ns)], self._limits.continuous)

    @property
    def _moves(self) -> bool:
        return bool((np.abs(self._velocities) > VELOCITY_EPSILON).any())

    def _row(self, now_ns: int) -> int:
        """Return the last row that has passed."""
        return min(max(0, (now_ns - self._start_ns) // GRID_NS), len(self._velocities) - 1)

    def _plan_again(self) -> None:
        """Let the next plan change what comes after the frozen part."""
        self._changed, self._frozen_ns = True, FROZEN_NS

    def _start_at(self, positions: np.ndarray, now_ns: int) -> None:
        """Start from rest at `positions`, where the robot is; within the limits where it is so up to noise."""
        inside = np.clip(positions, self._limits.position_min, self._limits.position_max)
        start = np.where(np.abs(positions - inside) <= self._rest.noise, inside, positions)
        self._rest_at(start, now_ns)
        self._next_positions, self._commanded_until_ns = start, now_ns

    def _rest_at(self, positions: np.ndarray, now_ns: int) -> None:
        self._positions = np.tile(positions.astype(np.float64), (HISTORY + 1, 1))
        self._velocities = np.zeros_like(self._positions)
        self._start_ns = now_ns - HISTORY * GRID_NS
        self._planned_at_ns = now_ns
        self._plan_again()

    def _on_clock_reset(self, now_ns: int) -> None:
        """Drop all chunks, whose times are void once the clock jumped back, and brake from the current motion."""
        self._chunks.clear()
        self._latencies_ns.clear()
        self._rest.leave()
        self._start_ns += now_ns - self._planned_at_ns
        self._commanded_until_ns += now_ns - self._planned_at_ns
        self._changed, self._frozen_ns = True, 0

    def _trim(self, now_ns: int, followed_until_ns: int = 0) -> tuple[int, np.ndarray]:
        """Drop the rows that have passed and those that may change.

        Returns:
            The row of the last grid point that has passed; each joint's last row that stays as it is, int64 [joints].
        """
        assert self._positions is not None
        passed = (now_ns - self._start_ns) // GRID_NS
        if passed >= len(self._positions) + HISTORY:  # it came to rest long ago
            self._rest_at(self._positions[-1], now_ns)
            passed = HISTORY
        first = max(0, passed - HISTORY)
        current = max(passed - first, HISTORY)
        until_ns = now_ns + self._frozen_ns if self._changed else max(now_ns + FROZEN_NS, self._followed_until_ns)
        end_ns = self._start_ns + (len(self._positions) - 1) * GRID_NS
        until_ns = max(until_ns, min(followed_until_ns, end_ns))
        # Stepped joints are already at the last position that they were commanded.
        all_until_ns = np.where(self._stepped, max(until_ns, self._commanded_until_ns), until_ns)
        self._start_ns += first * GRID_NS
        fixed = np.maximum(-(-(all_until_ns - self._start_ns) // GRID_NS), current)
        # The last row is at rest and may be repeated.
        rows = np.minimum(np.arange(first, first + fixed.max() + 1), len(self._positions) - 1)
        self._positions, self._velocities = self._positions[rows], self._velocities[rows]
        if now_ns > self._commanded_until_ns + max(LATE_NS, self._period_ns // 2):
            self._restart_stepped(fixed, current)
            self._commanded_until_ns = now_ns
        return current, fixed

    def _restart_stepped(self, fixed: np.ndarray, current: int) -> None:
        """After a late call, plan the stepped joints again, from rest at the last position that they were commanded."""
        assert self._positions is not None
        distances = np.abs(self._positions - self._next_positions)
        away = (distances > POSITION_EPSILON).any(axis=0) & self._stepped
        self._positions[:, away] = self._next_positions[away]
        self._velocities[:, away] = 0
        fixed[away] = current

    def _extend(self, fixed: np.ndarray, now_ns: int) -> None:
        """Continue from each joint's `fixed` row: follow the chunks up to PLAN_AHEAD_NS, then come to rest."""
        assert self._positions is not None
        limits = replace(self._limits, max_velocity=self._limits.max_velocity * self.speed_scaling)
        period = GRID_NS * 1e-9
        first, last = int(fixed.min()), int(fixed.max())
        position, velocity = self._positions[first], self._velocities[first]
        kept_positions, kept_velocities = self._positions, self._velocities
        positions, velocities = [kept_positions[: first + 1]], [kept_velocities[: first + 1]]
        targets, target_velocities, covered = self._setpoints(self._start_ns + first * GRID_NS, now_ns)
        # What some joints keep is planned for the others whether chunks cover it or not.
        kept = last - first
        count = kept + int(np.argmin(np.append(covered[kept:], False)))
        for step in range(count):
            if step < len(covered) and covered[step]:
                position, velocity = track(position, velocity, targets[step], target_velocities[step], limits, period)
            else:
                position, velocity = brake_step(position, velocity, limits.max_acceleration, period)
            row = first + 1 + step
            if row <= last:
                position = np.where(row <= fixed, kept_positions[row], position)
                velocity = np.where(row <= fixed, kept_velocities[row], velocity)
            positions.append(position[None])
            velocities.append(velocity[None])
        self._followed_until_ns = self._start_ns + (first + count) * GRID_NS
        self._changed, self._frozen_ns = False, FROZEN_NS
        braking, braking_velocities = brake(position, velocity, limits.max_acceleration, period)
        rest = np.tile(braking[-1] if len(braking) else position, (SMOOTHING_WINDOW - 1, 1))
        self._positions = np.vstack([*positions, braking, rest])
        self._velocities = np.vstack([*velocities, braking_velocities, np.zeros_like(rest)])

    def _setpoints(self, start_ns: int, now_ns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what the chunks want at the grid points after `start_ns`, up to PLAN_AHEAD_NS.

        They are read half a smoothing window later, so that the smoothed motion is on time.

        Returns:
            Positions and velocities [points, joints]; whether chunks in force cover the point, bool [points].
        """
        count = max(0, -(-(now_ns + FROZEN_NS + PLAN_AHEAD_NS - start_ns) // GRID_NS))
        delay_ns = (SMOOTHING_WINDOW - 1) * GRID_NS // 2
        times_ns = start_ns + delay_ns + GRID_NS * np.arange(count + 2, dtype=np.int64)
        self._drop_expired(now_ns)
        positions = np.zeros((len(times_ns), len(self._limits.joint_names)))
        weights = np.zeros((len(times_ns), 1))
        for rank, chunk in enumerate(self._chunks):
            in_force = (times_ns >= chunk.entry_ns) & (times_ns <= chunk.expiry_ns)
            actions = chunk.at(times_ns[in_force])
            if self._execution.strategy == "blended":
                weight = np.exp(-self._execution.ensemble_coefficient * rank)
                # A chunk that has ended counts only where no other one does: there its last action stays.
                weight = np.where(times_ns[in_force, None] <= chunk.end_ns, weight, 1e-9)
                positions[in_force] += weight * actions
                weights[in_force] += weight
            else:
                positions[in_force], weights[in_force] = actions, 1.0
        positions = positions / np.where(weights > 0, weights, 1)
        positions = np.clip(positions, self._limits.position_min, self._limits.position_max)
        # Where the chunks begin or end there is no neighbour to take the slope from.
        inner = (weights[:-2] > 0) & (weights[2:] > 0)
        velocities = np.where(inner, (positions[2:] - positions[:-2]) / (2e-9 * GRID_NS), 0.0)
        return positions[1:-1], velocities, weights[1:-1, 0] > 0

    def _drop_expired(self, now_ns: int) -> None:
        """Drop the chunks that will not be read any more."""
        chunks = [chunk for chunk in self._chunks if chunk.expiry_ns > now_ns]
        if self._execution.strategy == "blended":
            newest = len(chunks) - 1
            chunks = [chunk for rank, chunk in enumerate(chunks) if chunk.end_ns > now_ns or rank == newest]
        else:
            entered = [rank for rank, chunk in enumerate(chunks) if chunk.entry_ns <= now_ns]
            chunks = chunks[max(entered, default=0) :]
        self._chunks = chunks
