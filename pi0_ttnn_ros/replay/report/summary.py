"""The numbers that people read, computed from an episode's sums. None stands for what is unknown.

Field names are those of report.json. Positions are in rad (m for prismatic joints), times in seconds, fractions from 0
to 1. The arm is all joints except the grippers: these open and close, and an error in between means little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ttnn_ros.replay.episode import CommandStream, Frames
from pi0_ttnn_ros.replay.report.sums import EpisodeMetrics, Errors, Violations


@dataclass(frozen=True)
class JointSummary:
    """One joint.

    Attributes:
        name: of the joint.
        gripper: whether it is a gripper's.
        mae: mean absolute error over all compared steps.
        rmse: root mean square error over the same.
        normalized_mae: mean absolute error in the checkpoint's normalised space.
        normalized_rmse: root mean square error in that space.
        hold_mae: what `mae` would be if the policy stood still.
        jump_mean: mean absolute distance of the first action from the measured state.
        jump_max: largest such distance.
        jerk_predicted: root mean square, rad/s^3 or m/s^3.
        jerk_recorded: of the recorded motion.
        jerk_ratio: jerk_predicted / jerk_recorded.
        violations: number of predictions at which this joint exceeds a limit, by kind.
        reference_difference: largest absolute difference of an action from the reference's.
    """

    name: str
    gripper: bool
    mae: float | None
    rmse: float | None
    normalized_mae: float | None
    normalized_rmse: float | None
    hold_mae: float | None
    jump_mean: float | None
    jump_max: float | None
    jerk_predicted: float | None
    jerk_recorded: float | None
    jerk_ratio: float | None
    violations: dict[str, int]
    reference_difference: float | None


@dataclass(frozen=True)
class IndexSummary:
    """One step of the chunk.

    Attributes:
        time: after the observation.
        count: number of predictions compared at this step.
        mae: mean absolute error of the arm's joints.
        normalized_mae: of all joints, in the checkpoint's normalised space.
        normalized_hold_mae: the same of standing still.
    """

    time: float
    count: int
    mae: float | None
    normalized_mae: float | None
    normalized_hold_mae: float | None


@dataclass(frozen=True)
class ViolationSummary:
    """One kind of limit.

    Attributes:
        count: number of predictions that exceed it.
        fraction: of all predictions.
        joints: that exceed it.
        recorded_count: number of predictions in whose place the recorded motion exceeds it.
    """

    count: int
    fraction: float | None
    joints: list[str]
    recorded_count: int


@dataclass(frozen=True)
class Distribution:
    """Percentiles and maximum of one value per prediction."""

    p50: float
    p95: float
    max: float


@dataclass(frozen=True)
class CameraSummary:
    """The regularity of one camera's images, see `Frames`.

    Attributes:
        count: number of images.
        dropped: number of images missing between them.
        dropped_fraction: of the images that there should be.
        longest_gap: between two neighbours.
    """

    count: int
    dropped: int
    dropped_fraction: float
    longest_gap: float


@dataclass(frozen=True)
class ReferenceSummary:
    """Agreement with the reference.

    Attributes:
        predictions: number of predictions with a reference.
        undefined: number of those without a correlation.
        pcc_lowest: lowest correlation of a prediction's normalised actions.
        pcc_mean: mean correlation.
        difference: largest absolute difference of an action.
    """

    predictions: int
    undefined: int
    pcc_lowest: float | None
    pcc_mean: float | None
    difference: float | None


@dataclass(frozen=True)
class Summary:
    """The summary of an episode, or of several merged.

    Attributes:
        predictions: number of inferences.
        compared_predictions: number of those of which something was compared with the recording.
        compared_steps: number of actions compared.
        mae: mean absolute error of the arm's joints.
        rmse: root mean square error of the arm's joints.
        normalized_mae: of all joints, in the checkpoint's normalised space.
        normalized_rmse: of all joints, in that space.
        hold_ratio: normalized_mae relative to standing still at the measured state; below 1 is better than that.
        jerk_ratio: RMS jerk of the arm, predicted relative to recorded.
        violating: fraction of the predictions whose chunk exceeds any limit.
        recorded_violating: fraction of the compared predictions in whose place the recorded motion does.
        gripper_agreement: fraction of the compared steps with the gripper open or closed as recorded.
        gripper_change_agreement: the same of the steps by which the recorded gripper has opened or closed since the
            observation.
        joint_states: number of joint states.
        unusable_fraction: of the joint states without an observation.
        unusable: their number, by reason.
        latency: from the observation to its chunk.
        inference_time: of the model alone.
        violations: by kind of limit.
        dropped_frames: fraction of the images that the worst camera dropped.
        cameras: by name.
        reference: None: there was none.
        commands: of a running node; None: there was none.
        joints: in the robot's order.
        horizon: the steps of the chunk.
    """

    predictions: int
    compared_predictions: int
    compared_steps: int
    mae: float | None
    rmse: float | None
    normalized_mae: float | None
    normalized_rmse: float | None
    hold_ratio: float | None
    jerk_ratio: float | None
    violating: float | None
    recorded_violating: float | None
    gripper_agreement: float | None
    gripper_change_agreement: float | None
    joint_states: int
    unusable_fraction: float | None
    unusable: dict[str, int]
    latency: Distribution | None
    inference_time: Distribution | None
    violations: dict[str, ViolationSummary]
    dropped_frames: float | None
    cameras: dict[str, CameraSummary]
    reference: ReferenceSummary | None
    commands: CommandStream | None
    joints: list[JointSummary]
    horizon: list[IndexSummary]


def summarize(metrics: EpisodeMetrics) -> Summary:
    """Return the summary of an episode's sums."""
    arm = [index for index, name in enumerate(metrics.joint_names) if name not in metrics.grippers.names]
    grippers = metrics.grippers
    cameras = {camera: _camera(frames) for camera, frames in metrics.frames.items()}
    return Summary(
        predictions=metrics.predictions,
        compared_predictions=metrics.compared_predictions,
        compared_steps=sum(metrics.error.count),
        mae=_mae(metrics.error, arm),
        rmse=_rmse(metrics.error, arm),
        normalized_mae=_mae(metrics.normalized),
        normalized_rmse=_rmse(metrics.normalized),
        hold_ratio=_ratio(_mae(metrics.normalized), _mae(metrics.normalized_hold)),
        jerk_ratio=_root_ratio(metrics.jerks.predicted, metrics.jerks.recorded, arm),
        violating=_ratio(metrics.violations.count, metrics.predictions),
        recorded_violating=_ratio(metrics.recorded_violations.count, metrics.compared_predictions),
        gripper_agreement=_ratio(sum(grippers.agreeing), sum(grippers.count)),
        gripper_change_agreement=_ratio(sum(grippers.followed), sum(grippers.changes)),
        joint_states=metrics.joint_states,
        unusable_fraction=_ratio(sum(metrics.unusable.values()), metrics.joint_states),
        unusable=metrics.unusable,
        latency=_distribution(metrics.latency),
        inference_time=_distribution(metrics.inference_time),
        violations={kind: _violation(metrics, kind) for kind in metrics.violations.kinds},
        dropped_frames=max((camera.dropped_fraction for camera in cameras.values()), default=None),
        cameras=cameras,
        reference=_reference(metrics),
        commands=metrics.commands,
        joints=[_joint(metrics, joint) for joint in range(len(metrics.joint_names))],
        horizon=_horizon(metrics, arm),
    )


def _joint(metrics: EpisodeMetrics, joint: int) -> JointSummary:
    jerks, jumps, one = metrics.jerks, metrics.jumps, [joint]
    return JointSummary(
        name=metrics.joint_names[joint],
        gripper=metrics.joint_names[joint] in metrics.grippers.names,
        mae=_mae(metrics.error, one),
        rmse=_rmse(metrics.error, one),
        normalized_mae=_mae(metrics.normalized, one),
        normalized_rmse=_rmse(metrics.normalized, one),
        hold_mae=_mae(metrics.hold, one),
        jump_mean=_ratio(jumps.absolute[joint], jumps.count),
        jump_max=jumps.largest[joint] if jumps.count else None,
        jerk_predicted=_root(_ratio(jerks.predicted[joint], jerks.count)),
        jerk_recorded=_root(_ratio(jerks.recorded[joint], jerks.count)),
        jerk_ratio=_root_ratio(jerks.predicted, jerks.recorded, one),
        violations={kind: counts[joint] for kind, counts in metrics.violations.joints.items()},
        reference_difference=metrics.agreement.joints[joint] if metrics.agreement else None,
    )


def _horizon(metrics: EpisodeMetrics, arm: Sequence[int]) -> list[IndexSummary]:
    return [
        IndexSummary(
            time=index * metrics.time_step,
            count=count,
            mae=_mae(metrics.error, arm, index),
            normalized_mae=_mae(metrics.normalized, None, index),
            normalized_hold_mae=_mae(metrics.normalized_hold, None, index),
        )
        for index, count in enumerate(metrics.error.count)
    ]


def _violation(metrics: EpisodeMetrics, kind: str) -> ViolationSummary:
    violations: Violations = metrics.violations
    return ViolationSummary(
        count=violations.kinds[kind],
        fraction=_ratio(violations.kinds[kind], metrics.predictions),
        joints=[name for name, count in zip(metrics.joint_names, violations.joints[kind], strict=True) if count],
        recorded_count=metrics.recorded_violations.kinds[kind],
    )


def _camera(frames: Frames) -> CameraSummary:
    fraction = _ratio(frames.dropped, frames.count + frames.dropped)
    return CameraSummary(frames.count, frames.dropped, fraction or 0.0, frames.longest_gap)


def _reference(metrics: EpisodeMetrics) -> ReferenceSummary | None:
    agreement = metrics.agreement
    if agreement is None:
        return None
    return ReferenceSummary(
        predictions=len(agreement.pcc) + agreement.undefined,
        undefined=agreement.undefined,
        pcc_lowest=min(agreement.pcc, default=None),
        pcc_mean=_ratio(sum(agreement.pcc), len(agreement.pcc)),
        difference=max(agreement.difference, default=None),
    )


def _mae(errors: Errors, joints: Sequence[int] | None = None, index: int | None = None) -> float | None:
    return _mean(errors, lambda sums: sums.absolute, joints, index)


def _rmse(errors: Errors, joints: Sequence[int] | None = None) -> float | None:
    return _root(_mean(errors, lambda sums: sums.squared, joints, None))


def _mean(
    errors: Errors, which: Callable[[Errors], list[list[float]]], joints: Sequence[int] | None, index: int | None
) -> float | None:
    """Return the mean over compared steps, at one index of the chunk or all, and over joints; None stands for all."""
    if not errors.count:
        return None
    steps = slice(None) if index is None else slice(index, index + 1)
    sums = np.array(which(errors))[steps]
    chosen = sums if joints is None else sums[:, joints]
    return _ratio(float(chosen.sum()), sum(errors.count[steps]) * chosen.shape[1])


def _root_ratio(predicted: Sequence[float], recorded: Sequence[float], joints: Sequence[int]) -> float | None:
    return _root(_ratio(sum(predicted[joint] for joint in joints), sum(recorded[joint] for joint in joints)))


def _root(value: float | None) -> float | None:
    return None if value is None else value**0.5


def _ratio(value: float | None, whole: float | None) -> float | None:
    return None if value is None or not whole else value / whole


def _distribution(values: Sequence[float]) -> Distribution | None:
    if not values:
        return None
    p50, p95 = np.percentile(values, [50, 95])
    return Distribution(float(p50), float(p95), max(values))
