"""Sums and counts of an episode, which merge exactly with those of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ttnn_ros.replay.episode import CommandStream, Frames

NOT_FINITE, JUMP = "not finite", "jump"
VIOLATIONS = (NOT_FINITE, "position", "velocity", "acceleration", JUMP)


@dataclass(frozen=True)
class Errors:
    """Sums of differences from the recording, by step of the chunk and joint.

    Attributes:
        count: [horizon]. Compared predictions.
        absolute: [horizon][joints]. Sums of |difference|.
        squared: [horizon][joints]. Sums of difference^2.
    """

    count: list[int]
    absolute: list[list[float]]
    squared: list[list[float]]


@dataclass(frozen=True)
class Jumps:
    """Distance of first actions from the measured state, rad or m.

    Attributes:
        count: number of chunks.
        absolute: [joints]. Sums of |distance|.
        largest: [joints]. Largest |distance|.
    """

    count: int
    absolute: list[float]
    largest: list[float]


@dataclass(frozen=True)
class Jerks:
    """Sums of squared jerk, (rad/s^3)^2 or (m/s^3)^2.

    Attributes:
        count: number of windows of four compared steps.
        predicted: [joints].
        recorded: [joints]. Over the same windows.
    """

    count: int
    predicted: list[float]
    recorded: list[float]


@dataclass(frozen=True)
class Violations:
    """Number of predictions at which a limit is exceeded.

    Attributes:
        count: with any violation.
        kinds: by kind, see VIOLATIONS.
        joints: [joints] by kind.
    """

    count: int
    kinds: dict[str, int]
    joints: dict[str, list[int]]


@dataclass(frozen=True)
class Grippers:
    """Agreement on open or closed, for each gripper joint.

    Attributes:
        names: the gripper joints.
        count: compared steps.
        agreeing: steps at which prediction and recording agree.
        changes: steps by which the recorded gripper has opened or closed since the observation.
        followed: steps among these at which prediction and recording agree.
    """

    names: list[str]
    count: list[int]
    agreeing: list[int]
    changes: list[int]
    followed: list[int]


@dataclass(frozen=True)
class Agreement:
    """Agreement of the predictions with the reference.

    Attributes:
        pcc: Pearson's correlation of the normalised actions of each prediction for which it is defined.
        undefined: number of predictions without one: a value is not finite, or all are the same.
        difference: largest absolute difference of an action, rad or m, of each prediction.
        joints: [joints]. The same of each joint over all predictions.
    """

    pcc: list[float]
    undefined: int
    difference: list[float]
    joints: list[float]


@dataclass(frozen=True)
class EpisodeMetrics:
    """The metrics of an episode, or of several merged.

    Attributes:
        joint_names: of all joints.
        time_step: between two actions of a chunk, s.
        predictions: number of inferences.
        compared_predictions: number of those of which at least one step was compared.
        joint_states: see `Episode`.
        unusable: see `Episode`.
        error: of the predictions, rad or m.
        hold: of standing still at the measured state, rad or m.
        normalized: of the predictions, in the checkpoint's normalised space.
        normalized_hold: of standing still, in that space.
        prediction_error: mean absolute normalised error of each prediction; None: nothing was compared.
        jumps: of first actions from the measured state.
        jerks: of the predictions and the recording.
        grippers: open or closed.
        violations: of the predicted chunks.
        recorded_violations: of the recorded motion in their place.
        latency: of each prediction, s.
        inference_time: of each prediction, s.
        frames: by camera.
        agreement: with the reference; None: there was none.
        commands: of a running node; None: there was none.
    """

    joint_names: list[str]
    time_step: float
    predictions: int
    compared_predictions: int
    joint_states: int
    unusable: dict[str, int]
    error: Errors
    hold: Errors
    normalized: Errors
    normalized_hold: Errors
    prediction_error: list[float | None]
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


def merge_metrics(parts: Sequence[EpisodeMetrics]) -> EpisodeMetrics:
    """Return the metrics of all `parts`, as if their predictions were of one episode.

    Raises:
        ValueError: joints, grippers or time steps differ.
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
        predictions=sum(part.predictions for part in parts),
        compared_predictions=sum(part.compared_predictions for part in parts),
        joint_states=sum(part.joint_states for part in parts),
        unusable=_add_counts(part.unusable for part in parts),
        error=_merge_errors([part.error for part in parts]),
        hold=_merge_errors([part.hold for part in parts]),
        normalized=_merge_errors([part.normalized for part in parts]),
        normalized_hold=_merge_errors([part.normalized_hold for part in parts]),
        prediction_error=[error for part in parts for error in part.prediction_error],
        jumps=Jumps(
            count=sum(part.jumps.count for part in parts),
            absolute=_add_lists([part.jumps.absolute for part in parts]),
            largest=np.max([part.jumps.largest for part in parts], axis=0).tolist(),
        ),
        jerks=Jerks(
            count=sum(part.jerks.count for part in parts),
            predicted=_add_lists([part.jerks.predicted for part in parts]),
            recorded=_add_lists([part.jerks.recorded for part in parts]),
        ),
        grippers=Grippers(
            names=first.grippers.names,
            count=_add_lists([part.grippers.count for part in parts]),
            agreeing=_add_lists([part.grippers.agreeing for part in parts]),
            changes=_add_lists([part.grippers.changes for part in parts]),
            followed=_add_lists([part.grippers.followed for part in parts]),
        ),
        violations=_merge_violations([part.violations for part in parts]),
        recorded_violations=_merge_violations([part.recorded_violations for part in parts]),
        latency=[seconds for part in parts for seconds in part.latency],
        inference_time=[seconds for part in parts for seconds in part.inference_time],
        frames=_merge_frames([part.frames for part in parts]),
        agreement=_merge_agreements(agreements) if agreements else None,
        commands=_merge_commands(commands) if commands else None,
    )


def _merge_errors(parts: Sequence[Errors]) -> Errors:
    return Errors(
        count=_add_lists([part.count for part in parts]),
        absolute=_add_lists([part.absolute for part in parts]),
        squared=_add_lists([part.squared for part in parts]),
    )


def _merge_violations(parts: Sequence[Violations]) -> Violations:
    return Violations(
        count=sum(part.count for part in parts),
        kinds=_add_counts(part.kinds for part in parts),
        joints={kind: _add_lists([part.joints[kind] for part in parts]) for kind in VIOLATIONS},
    )


def _merge_agreements(parts: Sequence[Agreement]) -> Agreement:
    return Agreement(
        pcc=[value for part in parts for value in part.pcc],
        undefined=sum(part.undefined for part in parts),
        difference=[value for part in parts for value in part.difference],
        joints=np.max([part.joints for part in parts], axis=0).tolist(),
    )


def _merge_commands(parts: Sequence[CommandStream]) -> CommandStream:
    return CommandStream(
        count=sum(part.count for part in parts),
        longest_gap=max(part.longest_gap for part in parts),
        violations=_add_counts(part.violations for part in parts),
    )


def _merge_frames(parts: Sequence[dict[str, Frames]]) -> dict[str, Frames]:
    cameras = dict.fromkeys(camera for part in parts for camera in part)
    frames_by_camera = {camera: [part[camera] for part in parts if camera in part] for camera in cameras}
    return {
        camera: Frames(
            count=sum(frames.count for frames in camera_frames),
            dropped=sum(frames.dropped for frames in camera_frames),
            longest_gap=max(frames.longest_gap for frames in camera_frames),
        )
        for camera, camera_frames in frames_by_camera.items()
    }


def _add_counts(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Return the sums by name."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _add_lists(parts: Sequence[list]) -> list:
    """Return the sum of nested lists by element; shorter ones, of shorter chunks or none, are padded with zeros."""
    longest = max(parts, key=len)
    total = np.zeros_like(np.array(longest))
    for part in parts:
        if part:
            total[: len(part)] += np.array(part)
    return total.tolist()
