"""Overlapping chunks -> one continuous motion.

The motion lives on a grid with a fixed period. What was planned up to FROZEN_NS from now never changes, because the
controller may already be executing it: a new chunk, a hold or a late call only affects what comes after. The motion is
therefore continuous whatever the latencies are, and each step of it is within the limits (see `motion_limiter`). Every
plan ends at rest: if no further plan arrives, the robot stops.

Action i of a chunk is meant for the observation's stamp + i * time_step, except with the strategy "synchronous", where
the robot rests during inference and action 0 is meant for the moment at which the chunk arrives.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_core.rtc import GuidanceTarget, soft_mask
from pi0_ttnn_ros.execution.motion_limiter import brake, track
from pi0_ttnn_ros.execution.safety import Limits, SafetyError, check_actions, check_finite, check_jump

STRATEGIES = ("synchronous", "asynchronous", "blended", "rtc")

# What is planned up to this far ahead stays as it is: a plan needs that long to reach the controller.
FROZEN_NS = 40_000_000
# How far ahead a plan follows the chunks. If no further plan arrives, the robot stops from there.
PLAN_AHEAD_NS = 200_000_000
# Limiter steps that are averaged: the acceleration changes by at most 2 / SMOOTHING_WINDOW of its limit per step.
SMOOTHING_WINDOW = 4
VELOCITY_EPSILON = 1e-9  # rad/s (m/s); anything slower is rounding and counts as rest
LATENCY_WINDOW = 100  # chunks over which the 95th percentile of the latency is taken


@dataclass(frozen=True)
class Execution:
    """How chunks are executed.

    Attributes:
        strategy: one of STRATEGIES.
        time_step: seconds between two actions.
        period: seconds between two grid points.
        max_chunk_age: seconds after its observation from which no action of a chunk is executed.
        max_jump_time: seconds, see `safety.check_jump`.
        limit_policy: one of `safety.LIMIT_POLICIES`.
        execution_horizon: actions of a chunk that "synchronous" executes before it infers again; 0 for all.
        ensemble_coefficient: "blended" weights the n-th oldest chunk by exp(-coefficient * n) (Zhao et al. 2023, ACT).
    """

    strategy: str
    time_step: float
    period: float
    max_chunk_age: float
    max_jump_time: float
    limit_policy: str = "clamp"
    execution_horizon: int = 0
    ensemble_coefficient: float = 0.01


@dataclass(frozen=True)
class Plan:
    """A motion on the grid that ends at rest.

    Attributes:
        stamp_ns: time of the first point, which is the last grid point that has passed.
        times_ns: int64 [points], counted from the stamp, strictly increasing from 0.
        positions: float64 [points, joints], rad (m for prismatic joints).
        velocities: float64 [points, joints], rad/s (m/s); the last one is zero.
    """

    stamp_ns: int
    times_ns: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray

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


class ChunkExecutor:
    """The motion that is being executed and the chunks that it follows. Not thread-safe."""

    def __init__(self, limits: Limits, execution: Execution) -> None:
        """Start with no motion: the first chunk starts from the measured positions."""
        self._limits = limits
        self._execution = execution
        self._period_ns = round(execution.period * 1e9)
        self._max_age_ns = round(execution.max_chunk_age * 1e9)
        self._chunks: list[_ScheduledChunk] = []
        self._latencies_ns: deque[int] = deque(maxlen=LATENCY_WINDOW)
        self._speed_scaling = 1.0
        # The limiter's states: row i is at _start_ns + i * _period_ns. None until something is commanded.
        self._positions: np.ndarray | None = None
        self._velocities = np.empty((0, 0))
        self._start_ns = 0
        self._planned_at_ns = 0
        # The rows up to here follow the chunks; they are planned again only if something `_changed`.
        self._followed_until_ns = 0
        self._changed = True

    @property
    def speed_scaling(self) -> float:
        """Factor on the speed of chunks added from now on, and on the velocity limits at once."""
        return self._speed_scaling

    @speed_scaling.setter
    def speed_scaling(self, scaling: float) -> None:
        self._speed_scaling, self._changed = scaling, True

    @property
    def latency_ns(self) -> int:
        """The 95th percentile of the chunks' ages when they were ready; 0 before the first chunk."""
        return int(np.percentile(self._latencies_ns, 95)) if self._latencies_ns else 0

    def observe(self, measured: np.ndarray, now_ns: int) -> None:
        """Take the newest measured positions [joints], rad or m, finite; meant to be called before each plan."""

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
            check_actions(chunk.actions, execution.time_step, limits)
        first = scheduled.at(np.array([scheduled.entry_ns]))[0]
        clamped = np.clip(first, limits.position_min, limits.position_max)
        check_jump("the first action", clamped, measured, limits, execution.max_jump_time)
        self._check_tracking(measured, now_ns)
        self._latencies_ns.append(max(0, now_ns - chunk.stamp_ns))
        self._chunks.append(scheduled)
        self._changed = True

    def hold(self) -> None:
        """Stop as fast as the limits allow, and stay there."""
        if self._chunks:
            self._chunks.clear()
            self._changed = True

    def reset(self) -> None:
        """Forget what was commanded: somebody else may have moved the robot since."""
        self._chunks.clear()
        self._positions = None

    def wants_chunk(self, now_ns: int) -> bool:
        """Return whether to infer at `now_ns`: with "synchronous" only once the last chunk has been executed."""
        if self._execution.strategy != "synchronous" or not self._chunks or self._positions is None:
            return True
        row = min(max(0, (now_ns - self._start_ns) // self._period_ns), len(self._velocities) - 1)
        braking = self._limits.max_acceleration * self._execution.period
        return now_ns >= self._chunks[-1].end_ns and bool((np.abs(self._velocities[row]) <= braking).all())

    def guidance_target(self, stamp_ns: int) -> GuidanceTarget | None:
        """Return what a chunk from an observation at `stamp_ns` must agree with; None if nothing is executed then.

        These are the earlier chunk's actions at the new chunk's steps, frozen as far as they will have been executed
        by the time the new chunk takes over.
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
        return GuidanceTarget(chunk.at(times_ns).astype(np.float32), soft_mask(horizon, num_frozen, overlap))

    def plan(self, now_ns: int) -> Plan | None:
        """Return the motion from `now_ns` on; None if nothing was commanded yet.

        Meant to be called once a period; if the call is late, the robot has been following the last plan.
        """
        if self._positions is None:
            return None
        if now_ns < self._planned_at_ns - FROZEN_NS:
            self._on_clock_reset(now_ns)
        self._planned_at_ns = now_ns
        current = self._trim(now_ns)
        self._extend(now_ns)
        means = [
            np.lib.stride_tricks.sliding_window_view(rows, SMOOTHING_WINDOW, axis=0).mean(axis=-1)
            for rows in (self._positions, self._velocities)
        ]
        positions, velocities = means[0][current - SMOOTHING_WINDOW + 1 :], means[1][current - SMOOTHING_WINDOW + 1 :]
        velocities = np.where(np.abs(velocities) < VELOCITY_EPSILON, 0.0, velocities)
        times_ns = self._period_ns * np.arange(len(positions), dtype=np.int64)
        return Plan(self._start_ns + current * self._period_ns, times_ns, positions, velocities)

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
        scheduled = _ScheduledChunk(actions.astype(np.float64), start_ns, step_ns, entry_ns, expiry_ns)
        if scheduled.end_ns <= now_ns:
            raise SafetyError(
                f"the chunk was {age_ns * 1e-9:.2f} s old when it was ready, longer than its {len(actions)} steps "
                f"last: nothing of it is left to execute"
            )
        return scheduled

    def _check_tracking(self, measured: np.ndarray, now_ns: int) -> None:
        """Start from the measured positions, or check that the robot is where it was commanded to be.

        Raises:
            SafetyError: the robot moves and is too far from where it was commanded to be.
        """
        if self._positions is None:
            self._start_at(measured, now_ns)
            return
        row = min(max(0, (now_ns - self._start_ns) // self._period_ns), len(self._positions) - 1)
        try:
            check_jump(
                "the commanded position", self._positions[row], measured, self._limits, self._execution.max_jump_time
            )
        except SafetyError:
            if self._velocities[row:].any():
                raise
            self._start_at(measured, now_ns)  # somebody moved the robot while it was at rest

    def _start_at(self, positions: np.ndarray, now_ns: int) -> None:
        self._positions = np.tile(positions.astype(np.float64), (SMOOTHING_WINDOW, 1))
        self._velocities = np.zeros_like(self._positions)
        self._start_ns = now_ns - (SMOOTHING_WINDOW - 1) * self._period_ns
        self._planned_at_ns = now_ns
        self._changed = True

    def _on_clock_reset(self, now_ns: int) -> None:
        """Drop all chunks, whose times are void once the clock jumped back, and brake from the current motion."""
        self._chunks.clear()
        self._latencies_ns.clear()
        self._start_ns += now_ns - self._planned_at_ns
        self._changed = True

    def _trim(self, now_ns: int) -> int:
        """Drop the rows that have passed and those that may change; return the row of the last grid point."""
        assert self._positions is not None
        passed = (now_ns - self._start_ns) // self._period_ns
        if passed >= len(self._positions) + SMOOTHING_WINDOW:  # it came to rest long ago
            self._start_at(self._positions[-1], now_ns)
            passed = SMOOTHING_WINDOW - 1
        first = max(0, passed - SMOOTHING_WINDOW + 1)
        until_ns = now_ns + FROZEN_NS if self._changed else max(now_ns + FROZEN_NS, self._followed_until_ns)
        last = -(-(until_ns - self._start_ns) // self._period_ns)
        # The last row is at rest and may be repeated.
        rows = np.minimum(np.arange(first, last + 1), len(self._positions) - 1)
        self._positions, self._velocities = self._positions[rows], self._velocities[rows]
        self._start_ns += first * self._period_ns
        return max(passed - first, SMOOTHING_WINDOW - 1)

    def _extend(self, now_ns: int) -> None:
        """Continue from the last row that stays: follow the chunks up to PLAN_AHEAD_NS, then come to rest."""
        assert self._positions is not None
        limits = replace(self._limits, max_velocity=self._limits.max_velocity * self.speed_scaling)
        period = self._execution.period
        position, velocity = self._positions[-1], self._velocities[-1]
        positions, velocities = [], []
        last_ns = self._start_ns + (len(self._positions) - 1) * self._period_ns
        targets, target_velocities = self._setpoints(last_ns, now_ns)
        for target, target_velocity in zip(targets, target_velocities, strict=True):
            position, velocity = track(position, velocity, target, target_velocity, limits, period)
            positions.append(position)
            velocities.append(velocity)
        self._followed_until_ns = last_ns + len(targets) * self._period_ns
        self._changed = False
        braking, braking_velocities = brake(position, velocity, limits.max_acceleration, period)
        rest = np.tile(braking[-1] if len(braking) else position, (SMOOTHING_WINDOW, 1))
        self._positions = np.vstack([self._positions, *positions, braking, rest])
        self._velocities = np.vstack([self._velocities, *velocities, braking_velocities, np.zeros_like(rest)])

    def _setpoints(self, start_ns: int, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and velocities [points, joints] of the chunks at the grid points after `start_ns`.

        There are as many points as chunks in force cover, up to PLAN_AHEAD_NS. They are read half a smoothing window
        later, so that the smoothed motion is on time.
        """
        count = max(0, -(-(now_ns + FROZEN_NS + PLAN_AHEAD_NS - start_ns) // self._period_ns))
        delay_ns = (SMOOTHING_WINDOW - 1) * self._period_ns // 2
        times_ns = start_ns + delay_ns + self._period_ns * np.arange(count + 2, dtype=np.int64)
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
        covered = int(np.argmin(np.append(weights[1:-1, 0] > 0, False)))
        positions = positions / np.where(weights > 0, weights, 1)
        positions = np.clip(positions, self._limits.position_min, self._limits.position_max)
        # Where the chunks begin or end there is no neighbour to take the slope from.
        inner = (weights[:-2] > 0) & (weights[2:] > 0)
        velocities = np.where(inner, (positions[2:] - positions[:-2]) / (2 * self._execution.period), 0.0)
        return positions[1 : covered + 1], velocities[:covered]

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
