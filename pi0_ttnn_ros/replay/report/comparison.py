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


def compare(
    ticks: Sequence[Prediction], recording: Recording, parameters: Parameters, normalize: Normalize
) -> Compared:
    """Put ticks (one at least) beside the recording. Its gaps are those longer than `joint_state_timeout`."""
    state = np.stack([tick.state for tick in ticks]).astype(np.float64)
    actions = np.stack([tick.actions for tick in ticks]).astype(np.float64)
    stamps = np.array([tick.stamp_ns for tick in ticks], np.int64)
    step = round(parameters.time_step * 1e9)
    times = stamps[:, None] + step * np.arange(actions.shape[1], dtype=np.int64)
    truth = recorded_at(recording, times, parameters.joint_state_timeout)
    truth[~np.isfinite(actions).all(axis=(1, 2))] = np.nan
    held = np.broadcast_to(state[:, None], actions.shape)
    normalized = [normalized_actions_of(normalize, values, state) for values in (actions, truth, held)]
    return Compared(state, actions, truth, held, *normalized)


def normalized_actions_of(normalize: Normalize, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.stack([normalize(*pair) for pair in zip(actions, state, strict=True)]).astype(np.float64)
