"""Predicted chunks aligned with the recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.replay.episode import Prediction, Recording

# Maps actions [horizon, joints] and the state [joints] of their observation to the checkpoint's normalised space.
Normalize = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """Predictions and what was recorded at the same times, as float64 arrays; rad or m.

    Attributes:
        state: [predictions, joints]. Measured, from the observations.
        actions: [predictions, horizon, joints]. Predicted.
        ground_truth: [predictions, horizon, joints]. Recorded; NaN where nothing is compared: outside the recording, in
            its gaps, and where the prediction is not finite.
        held: [predictions, horizon, joints]. The state, as if the robot stood still.
        normalized_actions: `actions` in the checkpoint's normalised space.
        normalized_ground_truth: `ground_truth` in that space.
        normalized_held: `held` in that space.
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
        """Bool [predictions, horizon]: which steps are compared."""
        return np.isfinite(self.ground_truth).all(axis=-1)


def recorded_at(recording: Recording, times_ns: np.ndarray, max_gap: float) -> np.ndarray:
    """Return the recorded positions at `times_ns` (int64 [...]), interpolated linearly: float64 [..., joints].

    They are NaN before the first and after the last sample, and between samples more than `max_gap` seconds apart.
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
) -> Comparison:
    """Align at least one prediction with the recording, whose gaps are those longer than `joint_state_timeout`."""
    state = np.stack([prediction.state for prediction in predictions]).astype(np.float64)
    actions = np.stack([prediction.actions for prediction in predictions]).astype(np.float64)
    stamps_ns = np.array([prediction.stamp_ns for prediction in predictions], np.int64)
    step_ns = round(parameters.time_step * 1e9)
    times_ns = stamps_ns[:, None] + step_ns * np.arange(actions.shape[1], dtype=np.int64)
    ground_truth = recorded_at(recording, times_ns, parameters.joint_state_timeout)
    ground_truth[~np.isfinite(actions).all(axis=(1, 2))] = np.nan
    held = np.broadcast_to(state[:, None], actions.shape)
    normalized = [normalize_actions(normalize, values, state) for values in (actions, ground_truth, held)]
    return Comparison(state, actions, ground_truth, held, *normalized)


def normalize_actions(normalize: Normalize, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Return actions [predictions, horizon, joints] in the normalised space, given the states [predictions, joints]."""
    with np.errstate(invalid="ignore"):
        return np.stack([normalize(*pair) for pair in zip(actions, state, strict=True)]).astype(np.float64)
