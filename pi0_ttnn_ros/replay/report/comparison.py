"""Predicted chunks beside what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.replay.episode import Prediction, Recording

# Actions [horizon, joints] and the state [joints] of their observation -> actions in the checkpoint's normalised space.
Normalize = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Compared:
    """Predictions beside what was recorded in their time, as arrays of float64.

    state: [predictions, joints], measured in the observation; rad or m
    actions, ground_truth, held: [predictions, horizon, joints], predicted, recorded, and the state for ever; rad or m.
        The ground truth is
        NaN where nothing is compared: beyond the recording, in its gaps, and where the prediction is not finite.
    normalized_actions, normalized_ground_truth, normalized_held: the same in the checkpoint's normalised space
    """

    state: np.ndarray
    actions: np.ndarray
    ground_truth: np.ndarray
    held: np.ndarray
    normalized_actions: np.ndarray
    normalized_ground_truth: np.ndarray
    normalized_held: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """Which steps are compared, bool [predictions, horizon]."""
        return np.isfinite(self.ground_truth).all(axis=-1)


def recorded_at(recording: Recording, times_ns: np.ndarray, max_gap: float) -> np.ndarray:
    """Return the recorded positions at `times_ns` (int64 [...], nanoseconds), linear in between: float64 [..., joints].

    NaN before the first and after the last sample, and between neighbours that are more than `max_gap` seconds apart.
    """
    samples_ns = recording.times_ns
    if not len(samples_ns):
        return np.full((*times_ns.shape, recording.positions.shape[1]), np.nan)
    after = np.clip(np.searchsorted(samples_ns, times_ns), 0, len(samples_ns) - 1)
    before = np.where(samples_ns[after] > times_ns, np.maximum(after - 1, 0), after)
    gap_ns = samples_ns[after] - samples_ns[before]
    known = (times_ns >= samples_ns[0]) & (times_ns <= samples_ns[-1]) & (gap_ns <= max_gap * 1e9)
    fraction = ((times_ns - samples_ns[before]) / np.maximum(gap_ns, 1))[..., None]
    positions = recording.positions[before] * (1 - fraction) + recording.positions[after] * fraction
    known &= np.isfinite(positions).all(axis=-1)
    return np.where(known[..., None], positions, np.nan)


def compare(
    predictions: Sequence[Prediction], recording: Recording, parameters: Parameters, normalize: Normalize
) -> Compared:
    """Put predictions (one at least) beside the recording. Its gaps are those longer than `joint_state_timeout`."""
    state = np.stack([prediction.state for prediction in predictions]).astype(np.float64)
    actions = np.stack([prediction.actions for prediction in predictions]).astype(np.float64)
    stamps_ns = np.array([prediction.stamp_ns for prediction in predictions], np.int64)
    step_ns = round(parameters.time_step * 1e9)
    times_ns = stamps_ns[:, None] + step_ns * np.arange(actions.shape[1], dtype=np.int64)
    ground_truth = recorded_at(recording, times_ns, parameters.joint_state_timeout)
    ground_truth[~np.isfinite(actions).all(axis=(1, 2))] = np.nan
    held = np.broadcast_to(state[:, None], actions.shape)
    normalized = [normalize_actions(normalize, values, state) for values in (actions, ground_truth, held)]
    return Compared(state, actions, ground_truth, held, *normalized)


def normalize_actions(normalize: Normalize, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.stack([normalize(*pair) for pair in zip(actions, state, strict=True)]).astype(np.float64)
