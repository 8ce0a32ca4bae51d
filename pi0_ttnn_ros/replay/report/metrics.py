"""How far a replayed policy is from the recording, how smooth, how fast, and what safety would have refused.

All is kept as sums and counts, or as one value per tick: so episodes merge exactly. `replay_summary` makes of them what
people read. Everything here can be written as JSON. Knows nothing of ROS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pi0_ttnn_core.validation import pcc
from pi0_ttnn_ros.parameters import Parameters
from pi0_ttnn_ros.replay_episode import CommandStream, Episode, Frames, Recording, Tick
from pi0_ttnn_ros.safety import Limits, broken_limits, jump_excess

NOT_FINITE, JUMP = "not finite", "jump"
VIOLATIONS = (NOT_FINITE, "position", "velocity", "acceleration", JUMP)
BATCH = 256  # ticks at a time: as arrays of all of an hour's they would take gigabytes
# The middle of a gripper's recorded range says what is open where it moved over this part of its limits at least.
MOVED = 0.1

# Actions [horizon, joints] and the state [joints] of their observation -> actions in the checkpoint's normalised space.
Normalize = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Errors:
    """Sums of differences from the recording, by step of the chunk and joint.

    count: [horizon] compared steps
    absolute, squared: [horizon][joints] sums of |difference| and difference^2
    """

    count: list[int]
    absolute: list[list[float]]
    squared: list[list[float]]


@dataclass(frozen=True)
class Jumps:
    """How far `count` first actions are from the measured state, [joints]: sum and largest of the absolute values."""

    count: int
    absolute: list[float]
    largest: list[float]


@dataclass(frozen=True)
class Jerks:
    """Sums of squared jerk, [joints], (rad/s^3)^2, over the same `count` windows of four compared steps each."""

    count: int
    predicted: list[float]
    recorded: list[float]


@dataclass(frozen=True)
class Violations:
    """At how many ticks a limit is broken: at all, by kind, and by kind and joint."""

    ticks: int
    kinds: dict[str, int]
    joints: dict[str, list[int]]


@dataclass(frozen=True)
class Grippers:
    """Agreement on open or closed, for each gripper joint.

    names: the gripper joints
    count, agreeing: compared steps, and those where prediction and recording agree
    changes, followed: of these, the steps where the recording has left what was measured in the observation (it opened
        or closed within the chunk), and those where the prediction has, too
    """

    names: list[str]
    count: list[int]
    agreeing: list[int]
    changes: list[int]
    followed: list[int]


@dataclass(frozen=True)
class Agreement:
    """Of the two backends.

    pcc: Pearson's correlation of a tick's normalised actions, where it is defined
    undefined: ticks without one: a value is not finite, or all are the same
    difference: the largest absolute difference in the actions of a tick, rad or m
    joints: [joints], the same of each joint over all ticks
    """

    pcc: list[float]
    undefined: int
    difference: list[float]
    joints: list[float]


@dataclass(frozen=True)
class EpisodeMetrics:
    """Of one episode, or of several merged.

    joint_names: of all [joints]
    time_step: seconds between two actions of a chunk
    ticks: inferences
    compared_ticks: those of which at least one step was compared
    joint_states, unusable: see `Episode`
    error, hold: of the predictions, and of standing still at the measured state; rad or m
    normalized, normalized_hold: the same in the checkpoint's normalised space
    tick_error: mean absolute normalised error of each tick; None: nothing was compared
    jumps, jerks, grippers: see there
    violations, recorded_violations: of the predicted chunks, and of the recorded motion in their place
    latency, inference_time: of each tick, seconds
    frames: of each camera
    agreement: with the reference backend; None: there was none
    commands: what a running node commanded meanwhile; None: none was running
    """

    joint_names: list[str]
    time_step: float
    ticks: int
    compared_ticks: int
    joint_states: int
    unusable: dict[str, int]
    error: Errors
    hold: Errors
    normalized: Errors
    normalized_hold: Errors
    tick_error: list[float | None]
    jumps: Jumps
    jerks: Jerks
    grippers: Grippers
    violations: Violations
    recorded_violations: Violations
    latency: list[float]
    inference_time: list[float]
    frames: dict[str, Frames]
    agreement: Agreement | None
    commands: CommandStream | None


@dataclass(frozen=True)
class Compared:
    """Ticks beside what was recorded in their time, as arrays of float64.

    state: [ticks, joints], measured in the observation; rad or m
    actions, truth, held: [ticks, horizon, joints], predicted, recorded, and the state for ever; rad or m. The truth is
        NaN where nothing is compared: beyond the recording, in its gaps, and where the prediction is not finite.
    normalized_actions, normalized_truth, normalized_held: the same in the checkpoint's normalised space
    """

    state: np.ndarray
    actions: np.ndarray
    truth: np.ndarray
    held: np.ndarray
    normalized_actions: np.ndarray
    normalized_truth: np.ndarray
    normalized_held: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """Which steps are compared, bool [ticks, horizon]."""
        return np.isfinite(self.truth).all(axis=-1)


def episode_metrics(
    episode: Episode, parameters: Parameters, limits: Limits, grippers: Sequence[str], normalize: Normalize
) -> EpisodeMetrics:
    """Return the metrics of one episode; `grippers` are the joints that are opened and closed."""
    middles = gripper_middles(episode.recording, limits, grippers)
    parts = [_no_ticks(parameters, grippers)]
    for first in range(0, len(episode.ticks), BATCH):
        ticks = episode.ticks[first : first + BATCH]
        parts.append(_tick_metrics(ticks, episode.recording, parameters, limits, middles, normalize))
    return replace(
        merged(parts),
        joint_states=episode.joint_states,
        unusable=dict(episode.unusable),
        frames=dict(episode.frames),
        commands=episode.commands,
    )


def merged(parts: Sequence[EpisodeMetrics]) -> EpisodeMetrics:
    """Return the metrics of all ticks of `parts` together, as if they were of one episode.

    Raises:
        ValueError: they are not of the same joints, grippers and time step.
    """
    first = parts[0]
    for part in parts:
        if (part.joint_names, part.grippers.names, part.time_step) != (
            first.joint_names,
            first.grippers.names,
            first.time_step,
        ):
            raise ValueError("metrics of different joints, grippers or time steps cannot be merged")
    agreements = [part.agreement for part in parts if part.agreement is not None]
    commands = [part.commands for part in parts if part.commands is not None]
    return EpisodeMetrics(
        joint_names=first.joint_names,
        time_step=first.time_step,
        ticks=sum(part.ticks for part in parts),
        compared_ticks=sum(part.compared_ticks for part in parts),
        joint_states=sum(part.joint_states for part in parts),
        unusable=_added(part.unusable for part in parts),
        error=_merged_errors([part.error for part in parts]),
        hold=_merged_errors([part.hold for part in parts]),
        normalized=_merged_errors([part.normalized for part in parts]),
        normalized_hold=_merged_errors([part.normalized_hold for part in parts]),
        tick_error=[error for part in parts for error in part.tick_error],
        jumps=Jumps(
            count=sum(part.jumps.count for part in parts),
            absolute=_total([part.jumps.absolute for part in parts]),
            largest=np.max([part.jumps.largest for part in parts], axis=0).tolist(),
        ),
        jerks=Jerks(
            count=sum(part.jerks.count for part in parts),
            predicted=_total([part.jerks.predicted for part in parts]),
            recorded=_total([part.jerks.recorded for part in parts]),
        ),
        grippers=Grippers(
            names=first.grippers.names,
            count=_total([part.grippers.count for part in parts]),
            agreeing=_total([part.grippers.agreeing for part in parts]),
            changes=_total([part.grippers.changes for part in parts]),
            followed=_total([part.grippers.followed for part in parts]),
        ),
        violations=_merged_violations([part.violations for part in parts]),
        recorded_violations=_merged_violations([part.recorded_violations for part in parts]),
        latency=[seconds for part in parts for seconds in part.latency],
        inference_time=[seconds for part in parts for seconds in part.inference_time],
        frames=_merged_frames([part.frames for part in parts]),
        agreement=_merged_agreements(agreements) if agreements else None,
        commands=_merged_commands(commands) if commands else None,
    )


def recorded_at(recording: Recording, times: np.ndarray, max_gap: float) -> np.ndarray:
    """Return the recorded positions at `times` (int64 [...], nanoseconds), linear in between: float64 [..., joints].

    NaN before the first and after the last sample, and between neighbours that are more than `max_gap` seconds apart.
    """
    samples = recording.times
    if not len(samples):
        return np.full((*times.shape, recording.positions.shape[1]), np.nan)
    after = np.clip(np.searchsorted(samples, times), 0, len(samples) - 1)
    before = np.where(samples[after] > times, np.maximum(after - 1, 0), after)
    gap = samples[after] - samples[before]
    known = (times >= samples[0]) & (times <= samples[-1]) & (gap <= max_gap * 1e9)
    fraction = ((times - samples[before]) / np.maximum(gap, 1))[..., None]
    positions = recording.positions[before] * (1 - fraction) + recording.positions[after] * fraction
    known &= np.isfinite(positions).all(axis=-1)
    return np.where(known[..., None], positions, np.nan)


def compare(ticks: Sequence[Tick], recording: Recording, parameters: Parameters, normalize: Normalize) -> Compared:
    """Put ticks (one at least) beside the recording. Its gaps are those longer than `joint_state_timeout`."""
    state = np.stack([tick.state for tick in ticks]).astype(np.float64)
    actions = np.stack([tick.actions for tick in ticks]).astype(np.float64)
    stamps = np.array([tick.stamp for tick in ticks], np.int64)
    step = round(parameters.time_step * 1e9)
    times = stamps[:, None] + step * np.arange(actions.shape[1], dtype=np.int64)
    truth = recorded_at(recording, times, parameters.joint_state_timeout)
    truth[~np.isfinite(actions).all(axis=(1, 2))] = np.nan
    held = np.broadcast_to(state[:, None], actions.shape)
    normalized = [_normalized(normalize, values, state) for values in (actions, truth, held)]
    return Compared(state, actions, truth, held, *normalized)


def gripper_middles(recording: Recording, limits: Limits, grippers: Sequence[str]) -> dict[int, float]:
    """Return for the index of each gripper joint the position between open and closed.

    It is the middle of what was recorded or, where the gripper hardly moved, of the position limits.
    """
    middles = {}
    for joint in map(limits.joint_names.index, grippers):
        low, high = limits.position_min[joint], limits.position_max[joint]
        recorded = recording.positions[:, joint]
        if len(recorded) and np.ptp(recorded) >= MOVED * (high - low):
            low, high = recorded.min(), recorded.max()
        middles[joint] = float(low + high) / 2
    return middles


def _no_ticks(parameters: Parameters, grippers: Sequence[str]) -> EpisodeMetrics:
    joints = len(parameters.joint_names)
    errors, zeros, none = Errors([], [], []), [0.0] * joints, [0] * len(grippers)
    violations = Violations(0, dict.fromkeys(VIOLATIONS, 0), {kind: [0] * joints for kind in VIOLATIONS})
    return EpisodeMetrics(
        joint_names=list(parameters.joint_names),
        time_step=parameters.time_step,
        ticks=0,
        compared_ticks=0,
        joint_states=0,
        unusable={},
        error=errors,
        hold=errors,
        normalized=errors,
        normalized_hold=errors,
        tick_error=[],
        jumps=Jumps(0, zeros, zeros),
        jerks=Jerks(0, zeros, zeros),
        grippers=Grippers(list(grippers), none, none, none, none),
        violations=violations,
        recorded_violations=violations,
        latency=[],
        inference_time=[],
        frames={},
        agreement=None,
        commands=None,
    )


def _tick_metrics(
    ticks: Sequence[Tick],
    recording: Recording,
    parameters: Parameters,
    limits: Limits,
    middles: dict[int, float],
    normalize: Normalize,
) -> EpisodeMetrics:
    batch = compare(ticks, recording, parameters, normalize)
    finite = np.isfinite(batch.actions).all(axis=(1, 2))
    error = batch.normalized_actions - batch.normalized_truth
    return EpisodeMetrics(
        joint_names=list(parameters.joint_names),
        time_step=parameters.time_step,
        ticks=len(ticks),
        compared_ticks=int(batch.steps.any(axis=1).sum()),
        joint_states=0,
        unusable={},
        error=_errors(batch.actions - batch.truth),
        hold=_errors(batch.held - batch.truth),
        normalized=_errors(error),
        normalized_hold=_errors(batch.normalized_held - batch.normalized_truth),
        tick_error=[
            float(np.abs(of_tick[steps]).mean()) if steps.any() else None
            for of_tick, steps in zip(error, batch.steps, strict=True)
        ],
        jumps=_jumps(batch.actions[finite, 0] - batch.state[finite]),
        jerks=_jerks(batch, parameters.time_step),
        grippers=_grippers(batch, limits, middles),
        violations=_violations(batch, parameters, limits),
        recorded_violations=_counted(broken_limits(batch.truth, parameters.time_step, limits), len(ticks), limits),
        latency=[float(tick.latency) for tick in ticks],
        inference_time=[float(tick.inference_time) for tick in ticks],
        frames={},
        agreement=_agreement(ticks, batch, normalize),
        commands=None,
    )


def _normalized(normalize: Normalize, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.stack([normalize(*pair) for pair in zip(actions, state, strict=True)]).astype(np.float64)


def _errors(difference: np.ndarray) -> Errors:
    """Return the sums of differences [ticks, horizon, joints]; NaN where a step is not compared."""
    return Errors(
        count=np.isfinite(difference).all(axis=-1).sum(axis=0).tolist(),
        absolute=np.nansum(np.abs(difference), axis=0).tolist(),
        squared=np.nansum(difference**2, axis=0).tolist(),
    )


def _jumps(jump: np.ndarray) -> Jumps:
    jump = np.abs(jump)
    return Jumps(len(jump), jump.sum(axis=0).tolist(), jump.max(axis=0, initial=0.0).tolist())


def _jerks(batch: Compared, time_step: float) -> Jerks:
    """Third differences / time_step^3, of prediction and recording on the same steps."""
    with np.errstate(invalid="ignore"):
        predicted, recorded = (np.diff(values, 3, axis=1) / time_step**3 for values in (batch.actions, batch.truth))
    compared = np.isfinite(recorded).all(axis=-1)
    return Jerks(
        count=int(compared.sum()),
        predicted=(predicted[compared] ** 2).sum(axis=0).tolist(),
        recorded=(recorded[compared] ** 2).sum(axis=0).tolist(),
    )


def _grippers(batch: Compared, limits: Limits, middles: dict[int, float]) -> Grippers:
    joints, middle = list(middles), np.array(list(middles.values()))
    compared = batch.steps[..., None]
    measured = (batch.state[:, joints] > middle)[:, None]
    predicted, recorded = (values[..., joints] > middle for values in (batch.actions, batch.truth))
    agreeing = compared & (predicted == recorded)
    changed = compared & (recorded != measured)
    return Grippers(
        names=[limits.joint_names[joint] for joint in joints],
        count=[int(compared.sum())] * len(joints),
        agreeing=agreeing.sum(axis=(0, 1)).tolist(),
        changes=changed.sum(axis=(0, 1)).tolist(),
        followed=(changed & agreeing).sum(axis=(0, 1)).tolist(),
    )


def _violations(batch: Compared, parameters: Parameters, limits: Limits) -> Violations:
    with np.errstate(invalid="ignore"):
        broken = broken_limits(batch.actions, parameters.time_step, limits)
        first = np.clip(batch.actions[:, 0], limits.position_min, limits.position_max)
        broken[JUMP] = jump_excess(first, batch.state, limits, parameters.max_jump_time) > 0
    broken[NOT_FINITE] = ~np.isfinite(batch.actions).all(axis=1)
    return _counted(broken, len(batch.state), limits)


def _counted(broken: dict[str, np.ndarray], ticks: int, limits: Limits) -> Violations:
    """Count what is broken, by kind: bool [ticks, joints]."""
    none = np.zeros((ticks, len(limits.joint_names)), np.bool_)
    every = {kind: broken.get(kind, none) for kind in VIOLATIONS}
    return Violations(
        ticks=int(np.any([joints.any(axis=1) for joints in every.values()], axis=0).sum()),
        kinds={kind: int(joints.any(axis=1).sum()) for kind, joints in every.items()},
        joints={kind: joints.sum(axis=0).tolist() for kind, joints in every.items()},
    )


def _agreement(ticks: Sequence[Tick], batch: Compared, normalize: Normalize) -> Agreement | None:
    pairs = [(index, tick.reference) for index, tick in enumerate(ticks) if tick.reference is not None]
    if not pairs:
        return None
    indices = [index for index, _ in pairs]
    references = np.stack([reference for _, reference in pairs]).astype(np.float64)
    expected = _normalized(normalize, references, batch.state[indices])
    correlations = [pcc(*pair) for pair in zip(expected, batch.normalized_actions[indices], strict=True)]
    with np.errstate(invalid="ignore"):
        difference = np.abs(batch.actions[indices] - references)
    difference = difference[np.isfinite(difference).all(axis=(1, 2))]
    defined = [value for value in correlations if np.isfinite(value)]
    return Agreement(
        pcc=defined,
        undefined=len(correlations) - len(defined),
        difference=difference.max(axis=(1, 2)).tolist(),
        joints=difference.max(axis=(0, 1), initial=0.0).tolist(),
    )


def _merged_errors(parts: Sequence[Errors]) -> Errors:
    return Errors(
        count=_total([part.count for part in parts]),
        absolute=_total([part.absolute for part in parts]),
        squared=_total([part.squared for part in parts]),
    )


def _merged_violations(parts: Sequence[Violations]) -> Violations:
    return Violations(
        ticks=sum(part.ticks for part in parts),
        kinds=_added(part.kinds for part in parts),
        joints={kind: _total([part.joints[kind] for part in parts]) for kind in VIOLATIONS},
    )


def _merged_agreements(parts: Sequence[Agreement]) -> Agreement:
    return Agreement(
        pcc=[value for part in parts for value in part.pcc],
        undefined=sum(part.undefined for part in parts),
        difference=[value for part in parts for value in part.difference],
        joints=np.max([part.joints for part in parts], axis=0).tolist(),
    )


def _merged_commands(parts: Sequence[CommandStream]) -> CommandStream:
    return CommandStream(
        count=sum(part.count for part in parts),
        longest_gap=max(part.longest_gap for part in parts),
        violations=_added(part.violations for part in parts),
    )


def _merged_frames(parts: Sequence[dict[str, Frames]]) -> dict[str, Frames]:
    cameras = dict.fromkeys(camera for part in parts for camera in part)
    every = {camera: [part[camera] for part in parts if camera in part] for camera in cameras}
    return {
        camera: Frames(
            count=sum(frames.count for frames in of_camera),
            dropped=sum(frames.dropped for frames in of_camera),
            longest_gap=max(frames.longest_gap for frames in of_camera),
        )
        for camera, of_camera in every.items()
    }


def _added(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Return the sums by name."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _total(parts: Sequence[list]) -> list:
    """Return the sum of nested lists, element by element; shorter ones (of shorter chunks, or of none) end in zeros."""
    longest = max(parts, key=len)
    total = np.zeros_like(np.array(longest))
    for part in parts:
        if part:
            total[: len(part)] += np.array(part)
    return total.tolist()
