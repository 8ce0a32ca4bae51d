"""The metrics of an episode: error, smoothness, latency, and which limits are exceeded.

They are sums, counts, or one value per prediction, so that episodes merge exactly. `summary` computes from them the
numbers that people read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pi0_ttnn_core.validation.comparison import pcc
from pi0_ttnn_ros.execution.safety import Limits, broken_limits, jump_excess
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.replay.episode import Episode, Prediction, Recording
from pi0_ttnn_ros.replay.report.comparison import Comparison, Normalize, compare, normalize_actions
from pi0_ttnn_ros.replay.report.sums import (
    JUMP,
    NOT_FINITE,
    VIOLATIONS,
    Agreement,
    EpisodeMetrics,
    Errors,
    Grippers,
    Jerks,
    Jumps,
    Violations,
    merge_metrics,
)

BATCH = 256  # predictions at a time: the arrays for an hour would take gigabytes
# A gripper is open beyond the middle of its recorded range if that is at least this fraction of its limits.
MOVED = 0.1


def episode_metrics(
    episode: Episode, parameters: Parameters, limits: Limits, grippers: Sequence[str], normalize: Normalize
) -> EpisodeMetrics:
    """Return the metrics of one episode; `grippers` are the joints that open and close."""
    middles = gripper_middles(episode.recording, limits, grippers)
    parts = [_empty_metrics(parameters, grippers)]
    for first in range(0, len(episode.predictions), BATCH):
        predictions = episode.predictions[first : first + BATCH]
        parts.append(_batch_metrics(predictions, episode.recording, parameters, limits, middles, normalize))
    return replace(
        merge_metrics(parts),
        joint_states=episode.joint_states,
        unusable=dict(episode.unusable),
        frames=dict(episode.frames),
        commands=episode.commands,
    )


def gripper_middles(recording: Recording, limits: Limits, grippers: Sequence[str]) -> dict[int, float]:
    """Return the position between open and closed, rad or m, by the index of each gripper joint.

    It is the middle of the recorded range or, if the gripper hardly moved, of the position limits.
    """
    middles = {}
    for joint in map(limits.joint_names.index, grippers):
        low, high = limits.position_min[joint], limits.position_max[joint]
        recorded = recording.positions[:, joint]
        if len(recorded) and np.ptp(recorded) >= MOVED * (high - low):
            low, high = recorded.min(), recorded.max()
        middles[joint] = float(low + high) / 2
    return middles


def _empty_metrics(parameters: Parameters, grippers: Sequence[str]) -> EpisodeMetrics:
    joints = len(parameters.joint_names)
    errors, zeros, none = Errors([], [], []), [0.0] * joints, [0] * len(grippers)
    violations = Violations(0, dict.fromkeys(VIOLATIONS, 0), {kind: [0] * joints for kind in VIOLATIONS})
    return EpisodeMetrics(
        joint_names=list(parameters.joint_names),
        time_step=parameters.time_step,
        predictions=0,
        compared_predictions=0,
        joint_states=0,
        unusable={},
        error=errors,
        hold=errors,
        normalized=errors,
        normalized_hold=errors,
        prediction_error=[],
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


def _batch_metrics(
    predictions: Sequence[Prediction],
    recording: Recording,
    parameters: Parameters,
    limits: Limits,
    middles: dict[int, float],
    normalize: Normalize,
) -> EpisodeMetrics:
    batch = compare(predictions, recording, parameters, normalize)
    finite = np.isfinite(batch.actions).all(axis=(1, 2))
    error = batch.normalized_actions - batch.normalized_ground_truth
    return EpisodeMetrics(
        joint_names=list(parameters.joint_names),
        time_step=parameters.time_step,
        predictions=len(predictions),
        compared_predictions=int(batch.steps.any(axis=1).sum()),
        joint_states=0,
        unusable={},
        error=_errors(batch.actions - batch.ground_truth),
        hold=_errors(batch.held - batch.ground_truth),
        normalized=_errors(error),
        normalized_hold=_errors(batch.normalized_held - batch.normalized_ground_truth),
        prediction_error=[
            float(np.abs(errors[steps]).mean()) if steps.any() else None
            for errors, steps in zip(error, batch.steps, strict=True)
        ],
        jumps=_jumps(batch.actions[finite, 0] - batch.state[finite]),
        jerks=_jerks(batch, parameters.time_step),
        grippers=_grippers(batch, limits, middles),
        violations=_violations(batch, parameters, limits),
        recorded_violations=_count_violations(
            broken_limits(batch.ground_truth, parameters.time_step, limits), len(predictions), limits
        ),
        latency=[float(prediction.latency) for prediction in predictions],
        inference_time=[float(prediction.inference_time) for prediction in predictions],
        frames={},
        agreement=_agreement(predictions, batch, normalize),
        commands=None,
    )


def _errors(difference: np.ndarray) -> Errors:
    """Return the sums of differences [predictions, horizon, joints], which are NaN for steps that are not compared."""
    return Errors(
        count=np.isfinite(difference).all(axis=-1).sum(axis=0).tolist(),
        absolute=np.nansum(np.abs(difference), axis=0).tolist(),
        squared=np.nansum(difference**2, axis=0).tolist(),
    )


def _jumps(jump: np.ndarray) -> Jumps:
    jump = np.abs(jump)
    return Jumps(len(jump), jump.sum(axis=0).tolist(), jump.max(axis=0, initial=0.0).tolist())


def _jerks(batch: Comparison, time_step: float) -> Jerks:
    """Return jerk, third differences / time_step^3, of prediction and recording over the same steps."""
    with np.errstate(invalid="ignore"):
        predicted, recorded = (
            np.diff(values, 3, axis=1) / time_step**3 for values in (batch.actions, batch.ground_truth)
        )
    compared = np.isfinite(recorded).all(axis=-1)
    return Jerks(
        count=int(compared.sum()),
        predicted=(predicted[compared] ** 2).sum(axis=0).tolist(),
        recorded=(recorded[compared] ** 2).sum(axis=0).tolist(),
    )


def _grippers(batch: Comparison, limits: Limits, middles: dict[int, float]) -> Grippers:
    joints, middle = list(middles), np.array(list(middles.values()))
    compared = batch.steps[..., None]
    measured = (batch.state[:, joints] > middle)[:, None]
    predicted, recorded = (values[..., joints] > middle for values in (batch.actions, batch.ground_truth))
    agreeing = compared & (predicted == recorded)
    changed = compared & (recorded != measured)
    return Grippers(
        names=[limits.joint_names[joint] for joint in joints],
        count=[int(compared.sum())] * len(joints),
        agreeing=agreeing.sum(axis=(0, 1)).tolist(),
        changes=changed.sum(axis=(0, 1)).tolist(),
        followed=(changed & agreeing).sum(axis=(0, 1)).tolist(),
    )


def _violations(batch: Comparison, parameters: Parameters, limits: Limits) -> Violations:
    with np.errstate(invalid="ignore"):
        broken = broken_limits(batch.actions, parameters.time_step, limits)
        first = np.clip(batch.actions[:, 0], limits.position_min, limits.position_max)
        broken[JUMP] = jump_excess(first, batch.state, limits, parameters.max_jump_time) > 0
    broken[NOT_FINITE] = ~np.isfinite(batch.actions).all(axis=1)
    return _count_violations(broken, len(batch.state), limits)


def _count_violations(broken: dict[str, np.ndarray], predictions: int, limits: Limits) -> Violations:
    """Count the limits that are exceeded: bool [predictions, joints] by kind."""
    none = np.zeros((predictions, len(limits.joint_names)), np.bool_)
    all_kinds = {kind: broken.get(kind, none) for kind in VIOLATIONS}
    return Violations(
        count=int(np.any([joints.any(axis=1) for joints in all_kinds.values()], axis=0).sum()),
        kinds={kind: int(joints.any(axis=1).sum()) for kind, joints in all_kinds.items()},
        joints={kind: joints.sum(axis=0).tolist() for kind, joints in all_kinds.items()},
    )


def _agreement(predictions: Sequence[Prediction], batch: Comparison, normalize: Normalize) -> Agreement | None:
    pairs = [
        (index, prediction.reference)
        for index, prediction in enumerate(predictions)
        if prediction.reference is not None
    ]
    if not pairs:
        return None
    indices = [index for index, _ in pairs]
    references = np.stack([reference for _, reference in pairs]).astype(np.float64)
    expected = normalize_actions(normalize, references, batch.state[indices])
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
