"""Overlapping chunks -> one continuous motion. Knows nothing of ROS.

The motion lives on a grid of periods. Whatever was planned up to FROZEN_NS from now stays as it is: the controller may
be executing it already. A new chunk, a hold or a late call only changes what comes after. So the motion is continuous
whatever the latencies are, and each step of it is within the limits (see `motion_limiter`). Every plan ends at rest:
when no further one arrives, the robot stops.

Action i of a chunk is meant for the observation's stamp + i * time_step, except with the strategy "synchronous", where
the robot rests during inference and action 0 is meant for the moment at which the chunk is there.
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

FROZEN_NS = 40_000_000  # ns that a plan needs to reach the controller: it stays as it was for so long
PLAN_AHEAD_NS = 200_000_000  # ns of chunk in a plan, beyond which the robot stops where no further plan arrives
# Limiter steps that are averaged: the acceleration changes by at most 2 / SMOOTHING_WINDOW of its limit per step.
SMOOTHING_WINDOW = 4
VELOCITY_EPSILON = 1e-9  # rad/s (m/s), of rounding: slower is no motion
LATENCY_WINDOW = 100  # the window of the latency's 95th percentile


@dataclass(frozen=True)
class Execution:
    """How chunks are executed; times in seconds.

    strategy: one of STRATEGIES
    time_step: between two actions
    period: of the grid
    max_chunk_age: after which no action of a chunk is executed, counted from its observation
    max_jump_time: see `safety.check_jump`
    limit_policy: one of safety.LIMIT_POLICIES
    execution_horizon: actions of a chunk that "synchronous" executes before it infers again; 0 for all
    ensemble_coefficient: "blended" weighs the n-th oldest chunk with exp(-coefficient * n) (Zhao et al. 2023, ACT)
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
    """A motion on the grid, which ends at rest.

    stamp_ns: of the first point, nanoseconds; it is the last grid point that has passed
    times_ns: int64 [points], nanoseconds from the stamp, strictly increasing from 0
    positions, velocities: float64 [points, joints], in rad and rad/s (m and m/s); the last velocity is zero
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
        """Return when it has come to rest, nanoseconds."""
        return self.stamp_ns + int(self.times_ns[-1])


@dataclass(frozen=True)
class _ScheduledChunk:
    """A chunk on the time line, nanoseconds: action i at start + i * step, used from `entry` to `expiry`."""

    actions: np.ndarray
    start_ns: int
    step_ns: int
    entry_ns: int
    expiry_ns: int

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.step_ns * (len(self.actions) - 1)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the actions at `times` [n], linear in between, the last one after the end: [n, joints]."""
        index = np.clip((times - self.start_ns) / self.step_ns, 0, len(self.actions) - 1)
        before = np.floor(index).astype(np.int64)
        after = np.minimum(before + 1, len(self.actions) - 1)
        fraction = (index - before)[:, None]
        return self.actions[before] * (1 - fraction) + self.actions[after] * fraction


class ChunkExecutor:
    """The motion that is being executed, and the chunks that it follows. Not thread-safe."""

    def __init__(self, limits: Limits, execution: Execution) -> None:
        self._limits = limits
        self._execution = execution
        self._period_ns = round(execution.period * 1e9)
        self._max_age_ns = round(execution.max_chunk_age * 1e9)
        self._chunks: list[_ScheduledChunk] = []
        self._latencies_ns: deque[int] = deque(maxlen=LATENCY_WINDOW)
        self._speed_scaling = 1.0
        # The limiter's states: row i at _start + i * period. None until something is commanded.
        self._positions: np.ndarray | None = None
        self._velocities = np.empty((0, 0))
        self._start_ns = 0
        self._planned_at_ns = 0
        # The rows until then follow the chunks; they are planned anew only where something `_changed`.
        self._followed_until_ns = 0
        self._changed = True

    @property
    def speed_scaling(self) -> float:
        """Factor of the speed of the chunks that are added from now on, and of the velocity limits at once."""
        return self._speed_scaling

    @speed_scaling.setter
    def speed_scaling(self, scaling: float) -> None:
        self._speed_scaling, self._changed = scaling, True

    @property
    def latency_ns(self) -> int:
        """Return the 95th percentile of the chunks' ages when they were ready, nanoseconds; 0 before the first."""
        return int(np.percentile(self._latencies_ns, 95)) if self._latencies_ns else 0

    def add(self, chunk: ActionChunk, measured: np.ndarray, now_ns: int) -> None:
        """Take a chunk that is ready at `now` (nanoseconds); `measured` [joints] is where the robot is.

        Raises:
            SafetyError: a value is not finite, the chunk is too old or over, it is too far from the measured
                positions, or breaks a limit where the policy is to reject. The motion so far is not changed.
        """
        limits, execution = self._limits, self._execution
        check_finite("the measured joints", measured, limits.joint_names)
        check_finite("the actions", chunk.actions, limits.joint_names)
        entered = self._schedule(chunk, now_ns)
        if execution.limit_policy == "reject":
            check_actions(chunk.actions, execution.time_step, limits)
        first = entered.at(np.array([entered.entry_ns]))[0]
        inside = np.clip(first, limits.position_min, limits.position_max)
        check_jump("the first action", inside, measured, limits, execution.max_jump_time)
        self._check_tracking(measured, now_ns)
        self._latencies_ns.append(max(0, now_ns - chunk.stamp_ns))
        self._chunks.append(entered)
        self._changed = True

    def hold(self) -> None:
        """Stop, as fast as the limits allow, and stay."""
        if self._chunks:
            self._chunks.clear()
            self._changed = True

    def reset(self) -> None:
        """Forget what was commanded: someone else may have moved the robot since."""
        self._chunks.clear()
        self._positions = None

    def wants_chunk(self, now_ns: int) -> bool:
        """Return whether to infer at `now`: with "synchronous" only when the last chunk is executed."""
        if self._execution.strategy != "synchronous" or not self._chunks or self._positions is None:
            return True
        row = min(max(0, (now_ns - self._start_ns) // self._period_ns), len(self._velocities) - 1)
        braking = self._limits.max_acceleration * self._execution.period
        return now_ns >= self._chunks[-1].end_ns and bool((np.abs(self._velocities[row]) <= braking).all())

    def guidance_target(self, stamp_ns: int) -> GuidanceTarget | None:
        """Return what a chunk from an observation at `stamp` must agree with; None where nothing is executed then.

        The earlier chunk's actions at the new chunk's steps, frozen as far as they will be executed by the time that
        the new one is entered.
        """
        if not self._chunks:
            return None
        chunk = self._chunks[-1]
        horizon = len(chunk.actions)
        times = stamp_ns + chunk.step_ns * np.arange(horizon, dtype=np.int64)
        overlap = int(np.count_nonzero(times <= chunk.end_ns))
        if overlap == 0:
            return None
        num_frozen = min(overlap, -(-(self.latency_ns + FROZEN_NS) // chunk.step_ns))
        return GuidanceTarget(chunk.at(times).astype(np.float32), soft_mask(horizon, num_frozen, overlap))

    def plan(self, now_ns: int) -> Plan | None:
        """Return the motion from `now` (nanoseconds) on; None where nothing was commanded yet.

        It is meant to be called once a period; when it is called late, the robot was following the last plan.
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
        times = self._period_ns * np.arange(len(positions), dtype=np.int64)
        return Plan(self._start_ns + current * self._period_ns, times, positions, velocities)

    def _schedule(self, chunk: ActionChunk, now_ns: int) -> _ScheduledChunk:
        execution = self._execution
        step = round(execution.time_step * 1e9 / self.speed_scaling)
        age = now_ns - chunk.stamp_ns
        if abs(age) > self._max_age_ns:
            raise SafetyError(
                f"the chunk was {age * 1e-9:.2f} s old when it was ready, "
                f"max_chunk_age is {execution.max_chunk_age:g} s"
            )
        if execution.strategy == "synchronous":
            start = entry = now_ns + FROZEN_NS
            actions = chunk.actions[: execution.execution_horizon or None]
        else:
            start, actions = chunk.stamp_ns, chunk.actions
            entry = max(now_ns, chunk.stamp_ns + self.latency_ns)
        entered = _ScheduledChunk(actions.astype(np.float64), start, step, entry, chunk.stamp_ns + self._max_age_ns)
        if entered.end_ns <= now_ns:
            raise SafetyError(
                f"the chunk was {age * 1e-9:.2f} s old when it was ready, longer than its {len(actions)} steps: "
                f"nothing of it is left to execute"
            )
        return entered

    def _check_tracking(self, measured: np.ndarray, now_ns: int) -> None:
        """Start from the measured positions, or check that the robot is where it was commanded to be."""
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
            self._start_at(measured, now_ns)  # it rests, and somebody moved it meanwhile

    def _start_at(self, positions: np.ndarray, now_ns: int) -> None:
        self._positions = np.tile(positions.astype(np.float64), (SMOOTHING_WINDOW, 1))
        self._velocities = np.zeros_like(self._positions)
        self._start_ns = now_ns - (SMOOTHING_WINDOW - 1) * self._period_ns
        self._planned_at_ns = now_ns
        self._changed = True

    def _on_clock_reset(self, now_ns: int) -> None:
        """The clock jumped back: what it had promised has no time any more. Brake from where the motion is."""
        self._chunks.clear()
        self._latencies_ns.clear()
        self._start_ns += now_ns - self._planned_at_ns
        self._changed = True

    def _trim(self, now_ns: int) -> int:
        """Drop what has passed and what may change, and return the row of the last grid point before `now`."""
        assert self._positions is not None
        passed = (now_ns - self._start_ns) // self._period_ns
        if passed >= len(self._positions) + SMOOTHING_WINDOW:  # it has rested for long
            self._start_at(self._positions[-1], now_ns)
            passed = SMOOTHING_WINDOW - 1
        first = max(0, passed - SMOOTHING_WINDOW + 1)
        until = now_ns + FROZEN_NS if self._changed else max(now_ns + FROZEN_NS, self._followed_until_ns)
        last = -(-(until - self._start_ns) // self._period_ns)
        # The last row is one of rest: it goes on.
        rows = np.minimum(np.arange(first, last + 1), len(self._positions) - 1)
        self._positions, self._velocities = self._positions[rows], self._velocities[rows]
        self._start_ns += first * self._period_ns
        return max(passed - first, SMOOTHING_WINDOW - 1)

    def _extend(self, now_ns: int) -> None:
        """Go on from the last row that stays: after the chunks for a while, then to rest."""
        assert self._positions is not None
        limits = replace(self._limits, max_velocity=self._limits.max_velocity * self.speed_scaling)
        period = self._execution.period
        position, velocity = self._positions[-1], self._velocities[-1]
        positions, velocities = [], []
        last = self._start_ns + (len(self._positions) - 1) * self._period_ns
        wanted, wanted_velocities = self._setpoints(last, now_ns)
        for aim, speed in zip(wanted, wanted_velocities, strict=True):
            position, velocity = track(position, velocity, aim, speed, limits, period)
            positions.append(position)
            velocities.append(velocity)
        self._followed_until_ns = last + len(wanted) * self._period_ns
        self._changed = False
        braking, slowing = brake(position, velocity, limits.max_acceleration, period)
        resting = braking[-1] if len(braking) else position
        rest = np.tile(resting, (SMOOTHING_WINDOW, 1))
        self._positions = np.vstack([self._positions, *positions, braking, rest])
        self._velocities = np.vstack([self._velocities, *velocities, slowing, np.zeros_like(rest)])

    def _setpoints(self, start: int, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what the chunks want at the grid points after `start`: positions and velocities [points, joints].

        As many points as chunks in force cover, until PLAN_AHEAD_NS. They are taken half of the smoothing later, so
        that the smoothed motion is on time.
        """
        count = max(0, -(-(now_ns + FROZEN_NS + PLAN_AHEAD_NS - start) // self._period_ns))
        delay = (SMOOTHING_WINDOW - 1) * self._period_ns // 2
        times = start + delay + self._period_ns * np.arange(count + 2, dtype=np.int64)
        self._drop_expired(now_ns)
        wanted = np.zeros((len(times), len(self._limits.joint_names)))
        weights = np.zeros((len(times), 1))
        for rank, chunk in enumerate(self._chunks):
            in_force = (times >= chunk.entry_ns) & (times <= chunk.expiry_ns)
            actions = chunk.at(times[in_force])
            if self._execution.strategy == "blended":
                weight = np.exp(-self._execution.ensemble_coefficient * rank)
                # After its end a chunk has no say, but where it is the only one its last action stays.
                weight = np.where(times[in_force, None] <= chunk.end_ns, weight, 1e-9)
                wanted[in_force] += weight * actions
                weights[in_force] += weight
            else:
                wanted[in_force], weights[in_force] = actions, 1.0
        covered = int(np.argmin(np.append(weights[1:-1, 0] > 0, False)))
        wanted = np.clip(
            wanted / np.where(weights > 0, weights, 1), self._limits.position_min, self._limits.position_max
        )
        # Where the chunks begin or end there is no neighbour to take the slope from.
        inner = (weights[:-2] > 0) & (weights[2:] > 0)
        slopes = np.where(inner, (wanted[2:] - wanted[:-2]) / (2 * self._execution.period), 0.0)
        return wanted[1 : covered + 1], slopes[:covered]

    def _drop_expired(self, now_ns: int) -> None:
        """Drop the chunks that will not be asked any more."""
        chunks = [chunk for chunk in self._chunks if chunk.expiry_ns > now_ns]
        if self._execution.strategy == "blended":
            newest = len(chunks) - 1
            chunks = [chunk for rank, chunk in enumerate(chunks) if chunk.end_ns > now_ns or rank == newest]
        else:
            entered = [rank for rank, chunk in enumerate(chunks) if chunk.entry_ns <= now_ns]
            chunks = chunks[max(entered, default=0) :]
        self._chunks = chunks
