"""Sums and counts of one episode, which merge exactly with those of another."""

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
    """At how many predictions a limit is broken: at all, by kind, and by kind and joint."""

    count: int
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

    pcc: Pearson's correlation of a prediction's normalised actions, where it is defined
    undefined: predictions without one: a value is not finite, or all are the same
    difference: the largest absolute difference in the actions of a prediction, rad or m
    joints: [joints], the same of each joint over all predictions
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
    predictions: inferences
    compared_predictions: those of which at least one step was compared
    joint_states, unusable: see `Episode`
    error, hold: of the predictions, and of standing still at the measured state; rad or m
    normalized, normalized_hold: the same in the checkpoint's normalised space
    prediction_error: mean absolute normalised error of each prediction; None: nothing was compared
    jumps, jerks, grippers: see there
    violations, recorded_violations: of the predicted chunks, and of the recorded motion in their place
    latency, inference_time: of each prediction, seconds
    frames: of each camera
    agreement: with the reference backend; None: there was none
    commands: what a running node commanded meanwhile; None: none was running
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


def merged(parts: Sequence[EpisodeMetrics]) -> EpisodeMetrics:
    """Return the metrics of all predictions of `parts` together, as if they were of one episode.

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
        predictions=sum(part.predictions for part in parts),
        compared_predictions=sum(part.compared_predictions for part in parts),
        joint_states=sum(part.joint_states for part in parts),
        unusable=_added(part.unusable for part in parts),
        error=_merged_errors([part.error for part in parts]),
        hold=_merged_errors([part.hold for part in parts]),
        normalized=_merged_errors([part.normalized for part in parts]),
        normalized_hold=_merged_errors([part.normalized_hold for part in parts]),
        prediction_error=[error for part in parts for error in part.prediction_error],
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


def _merged_errors(parts: Sequence[Errors]) -> Errors:
    return Errors(
        count=_total([part.count for part in parts]),
        absolute=_total([part.absolute for part in parts]),
        squared=_total([part.squared for part in parts]),
    )


def _merged_violations(parts: Sequence[Violations]) -> Violations:
    return Violations(
        count=sum(part.count for part in parts),
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
    cameras_frames = {camera: [part[camera] for part in parts if camera in part] for camera in cameras}
    return {
        camera: Frames(
            count=sum(frames.count for frames in of_camera),
            dropped=sum(frames.dropped for frames in of_camera),
            longest_gap=max(frames.longest_gap for frames in of_camera),
        )
        for camera, of_camera in cameras_frames.items()
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
