"""Overlapping chunks -> one continuous motion. Knows nothing of ROS.

The motion lives on a grid of periods. Whatever was planned up to LEAD from now stays as it is, because the controller
may be executing it already: a new chunk, a hold, a late call only change what comes after. So the motion is continuous
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

LEAD = 40_000_000  # ns that a plan needs to reach the controller: it stays as it was for so long
AHEAD = 200_000_000  # ns of chunk in a plan, beyond which the robot stops where no further plan arrives
# The motion is the mean of so many steps of the limiter: the acceleration changes by 2 / SMOOTHING of its limit a step.
SMOOTHING = 4
STILL = 1e-9  # rad/s (m/s), of rounding: slower is no motion
LATENCIES = 100  # the window of the latency's 95th percentile


@dataclass(frozen=True)
class Execution:
    """How chunks are executed; times in seconds.

    strategy: one of STRATEGIES
    time_step: between two actions
    period: of the grid
    max_chunk_age: after which no action of a chunk is executed, counted from its observation
    max_jump_time: see `safety.check_jump`
    limit_policy: one of safety.POLICIES
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
    times: int64 [points], nanoseconds from the stamp, strictly increasing from 0
    positions, velocities: float64 [points, joints], in rad and rad/s (m and m/s); the last velocity is zero
    """

    stamp_ns: int
    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves in it."""
        return not self.velocities.any()

    @property
    def end(self) -> int:
        """Return when it has come to rest, nanoseconds."""
        return self.stamp_ns + int(self.times[-1])


@dataclass(frozen=True)
class _Entered:
    """A chunk on the time line, nanoseconds: action i at start + i * step, used from `entry` to `expiry`."""

    actions: np.ndarray
    start: int
    step: int
    entry: int
    expiry: int

    @property
    def end(self) -> int:
        return self.start + self.step * (len(self.actions) - 1)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the actions at `times` [n], linear in between, the last one after the end: [n, joints]."""
        index = np.clip((times - self.start) / self.step, 0, len(self.actions) - 1)
        before = np.floor(index).astype(np.int64)
        after = np.minimum(before + 1, len(self.actions) - 1)
        fraction = (index - before)[:, None]
        return self.actions[before] * (1 - fraction) + self.actions[after] * fraction


class ChunkExecutor:
    """The motion that is being executed, and the chunks that it follows. Not thread-safe."""

    def __init__(self, limits: Limits, execution: Execution) -> None:
        self._limits = limits
        self._execution = execution
        self._period = round(execution.period * 1e9)
        self._max_age = round(execution.max_chunk_age * 1e9)
        self._chunks: list[_Entered] = []
        self._latencies: deque[int] = deque(maxlen=LATENCIES)
        self._speed_scaling = 1.0
        # The limiter's states: row i at _start + i * period. None until something is commanded.
        self._positions: np.ndarray | None = None
        self._velocities = np.empty((0, 0))
        self._start = 0
        self._planned_at = 0
        # The rows until then follow the chunks; they are planned anew only where something `_changed`.
        self._followed_until = 0
        self._changed = True

    @property
    def speed_scaling(self) -> float:
        """Factor of the speed of the chunks that are added from now on, and of the velocity limits at once."""
        return self._speed_scaling

    @speed_scaling.setter
    def speed_scaling(self, scaling: float) -> None:
        self._speed_scaling, self._changed = scaling, True

    @property
    def latency(self) -> int:
        """Return the 95th percentile of the chunks' ages when they were ready, nanoseconds; 0 before the first."""
        return int(np.percentile(self._latencies, 95)) if self._latencies else 0

    def add(self, chunk: ActionChunk, measured: np.ndarray, now_ns: int) -> None:
        """Take a chunk that is ready at `now` (nanoseconds); `measured` [joints] is where the robot is.

        Raises:
            SafetyError: a value is not finite, the chunk is too old or over, it is too far from the measured
                positions, or breaks a limit where the policy is to reject. The motion so far is not changed.
        """
        limits, execution = self._limits, self._execution
        check_finite("the measured joints", measured, limits.joint_names)
        check_finite("the actions", chunk.actions, limits.joint_names)
        entered = self._enter(chunk, now_ns)
        if execution.limit_policy == "reject":
            check_actions(chunk.actions, execution.time_step, limits)
        first = entered.at(np.array([entered.entry]))[0]
        inside = np.clip(first, limits.position_min, limits.position_max)
        check_jump("the first action", inside, measured, limits, execution.max_jump_time)
        self._meet(measured, now_ns)
        self._latencies.append(max(0, now_ns - chunk.stamp_ns))
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
        row = min(max(0, (now_ns - self._start) // self._period), len(self._velocities) - 1)
        braking = self._limits.max_acceleration * self._execution.period
        return now_ns >= self._chunks[-1].end and bool((np.abs(self._velocities[row]) <= braking).all())

    def prefix(self, stamp_ns: int) -> GuidanceTarget | None:
        """Return what a chunk from an observation at `stamp` must agree with; None where nothing is executed then.

        The earlier chunk's actions at the new chunk's steps, frozen as far as they will be executed by the time that
        the new one is entered.
        """
        if not self._chunks:
            return None
        chunk = self._chunks[-1]
        horizon = len(chunk.actions)
        times = stamp_ns + chunk.step * np.arange(horizon, dtype=np.int64)
        overlap = int(np.count_nonzero(times <= chunk.end))
        if overlap == 0:
            return None
        frozen = min(overlap, -(-(self.latency + LEAD) // chunk.step))
        return GuidanceTarget(chunk.at(times).astype(np.float32), soft_mask(horizon, frozen, overlap))

    def plan(self, now_ns: int) -> Plan | None:
        """Return the motion from `now` (nanoseconds) on; None where nothing was commanded yet.

        It is meant to be called once a period; when it is called late, the robot was following the last plan.
        """
        if self._positions is None:
            return None
        if now_ns < self._planned_at - LEAD:
            self._turn_back(now_ns)
        self._planned_at = now_ns
        current = self._keep(now_ns)
        self._extend(now_ns)
        means = [
            np.lib.stride_tricks.sliding_window_view(rows, SMOOTHING, axis=0).mean(axis=-1)
            for rows in (self._positions, self._velocities)
        ]
        positions, velocities = means[0][current - SMOOTHING + 1 :], means[1][current - SMOOTHING + 1 :]
        velocities = np.where(np.abs(velocities) < STILL, 0.0, velocities)
        times = self._period * np.arange(len(positions), dtype=np.int64)
        return Plan(self._start + current * self._period, times, positions, velocities)

    def _enter(self, chunk: ActionChunk, now_ns: int) -> _Entered:
        execution = self._execution
        step = round(execution.time_step * 1e9 / self.speed_scaling)
        age = now_ns - chunk.stamp_ns
        if abs(age) > self._max_age:
            raise SafetyError(
                f"the chunk was {age * 1e-9:.2f} s old when it was ready, "
                f"max_chunk_age is {execution.max_chunk_age:g} s"
            )
        if execution.strategy == "synchronous":
            start = entry = now_ns + LEAD
            actions = chunk.actions[: execution.execution_horizon or None]
        else:
            start, actions = chunk.stamp_ns, chunk.actions
            entry = max(now_ns, chunk.stamp_ns + self.latency)
        entered = _Entered(actions.astype(np.float64), start, step, entry, chunk.stamp_ns + self._max_age)
        if entered.end <= now_ns:
            raise SafetyError(
                f"the chunk was {age * 1e-9:.2f} s old when it was ready, longer than its {len(actions)} steps: "
                f"nothing of it is left to execute"
            )
        return entered

    def _meet(self, measured: np.ndarray, now_ns: int) -> None:
        """Start from the measured positions, or check that the robot is where it was commanded to be."""
        if self._positions is None:
            self._start_at(measured, now_ns)
            return
        row = min(max(0, (now_ns - self._start) // self._period), len(self._positions) - 1)
        try:
            check_jump(
                "the commanded position", self._positions[row], measured, self._limits, self._execution.max_jump_time
            )
        except SafetyError:
            if self._velocities[row:].any():
                raise
            self._start_at(measured, now_ns)  # it rests, and somebody moved it meanwhile

    def _start_at(self, positions: np.ndarray, now_ns: int) -> None:
        self._positions = np.tile(positions.astype(np.float64), (SMOOTHING, 1))
        self._velocities = np.zeros_like(self._positions)
        self._start = now_ns - (SMOOTHING - 1) * self._period
        self._planned_at = now_ns
        self._changed = True

    def _turn_back(self, now_ns: int) -> None:
        """The clock jumped back: what it had promised has no time any more. Brake from where the motion is."""
        self._chunks.clear()
        self._latencies.clear()
        self._start += now_ns - self._planned_at
        self._changed = True

    def _keep(self, now_ns: int) -> int:
        """Drop what has passed and what may change, and return the row of the last grid point before `now`."""
        assert self._positions is not None
        passed = (now_ns - self._start) // self._period
        if passed >= len(self._positions) + SMOOTHING:  # it has rested for long
            self._start_at(self._positions[-1], now_ns)
            passed = SMOOTHING - 1
        first = max(0, passed - SMOOTHING + 1)
        until = now_ns + LEAD if self._changed else max(now_ns + LEAD, self._followed_until)
        last = -(-(until - self._start) // self._period)
        # The last row is one of rest: it goes on.
        rows = np.minimum(np.arange(first, last + 1), len(self._positions) - 1)
        self._positions, self._velocities = self._positions[rows], self._velocities[rows]
        self._start += first * self._period
        return max(passed - first, SMOOTHING - 1)

    def _extend(self, now_ns: int) -> None:
        """Go on from the last row that stays: after the chunks for a while, then to rest."""
        assert self._positions is not None
        limits = replace(self._limits, max_velocity=self._limits.max_velocity * self.speed_scaling)
        period = self._execution.period
        position, velocity = self._positions[-1], self._velocities[-1]
        positions, velocities = [], []
        last = self._start + (len(self._positions) - 1) * self._period
        wanted, wanted_velocities = self._wanted(last, now_ns)
        for aim, speed in zip(wanted, wanted_velocities, strict=True):
            position, velocity = track(position, velocity, aim, speed, limits, period)
            positions.append(position)
            velocities.append(velocity)
        self._followed_until = last + len(wanted) * self._period
        self._changed = False
        braking, slowing = brake(position, velocity, limits.max_acceleration, period)
        resting = braking[-1] if len(braking) else position
        rest = np.tile(resting, (SMOOTHING, 1))
        self._positions = np.vstack([self._positions, *positions, braking, rest])
        self._velocities = np.vstack([self._velocities, *velocities, slowing, np.zeros_like(rest)])

    def _wanted(self, start: int, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what the chunks want at the grid points after `start`: positions and velocities [points, joints].

        As many points as chunks in force cover, until AHEAD. They are taken half of the smoothing later, so that the
        smoothed motion is on time.
        """
        count = max(0, -(-(now_ns + LEAD + AHEAD - start) // self._period))
        delay = (SMOOTHING - 1) * self._period // 2
        times = start + delay + self._period * np.arange(count + 2, dtype=np.int64)
        self._forget(now_ns)
        wanted = np.zeros((len(times), len(self._limits.joint_names)))
        weights = np.zeros((len(times), 1))
        for rank, chunk in enumerate(self._chunks):
            in_force = (times >= chunk.entry) & (times <= chunk.expiry)
            actions = chunk.at(times[in_force])
            if self._execution.strategy == "blended":
                weight = np.exp(-self._execution.ensemble_coefficient * rank)
                # After its end a chunk has no say, but where it is the only one its last action stays.
                weight = np.where(times[in_force, None] <= chunk.end, weight, 1e-9)
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

    def _forget(self, now_ns: int) -> None:
        """Drop the chunks that will not be asked any more."""
        chunks = [chunk for chunk in self._chunks if chunk.expiry > now_ns]
        if self._execution.strategy == "blended":
            newest = len(chunks) - 1
            chunks = [chunk for rank, chunk in enumerate(chunks) if chunk.end > now_ns or rank == newest]
        else:
            entered = [rank for rank, chunk in enumerate(chunks) if chunk.entry <= now_ns]
            chunks = chunks[max(entered, default=0) :]
        self._chunks = chunks
