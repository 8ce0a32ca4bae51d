"""Episodes for the tests of replay metrics and reports, made from functions of time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from pi0_ttnn_ros.replay.episode import Episode, Frames, Prediction, Recording

STEP = 20_000_000  # nanoseconds
START = 1_760_000_000 * 10**9  # stamps of a clock on the wall, which float64 does not hold to the nanosecond
JOINTS = ("shoulder", "elbow", "gripper")
GRIPPERS = ("gripper",)
LIMITS = Limits(JOINTS, np.array([-2.0, -2.0, 0.0]), np.array([2.0, 2.0, 1.0]), np.full(3, 4.0), np.full(3, 40.0))
SCALE = np.array([2.0, 5.0, 10.0])
PARAMETERS: Parameters = replace(
    parameters_from_yaml(Path(__file__).parents[2] / "config/aloha.yaml", {"checkpoint": "anywhere"}),
    joint_names=list(JOINTS),
)


def normalize(actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Return offsets from the state, scaled per joint."""
    return (actions - state) * SCALE


def wave(times: np.ndarray) -> np.ndarray:
    """Return a motion within the limits, [times, joints]; the gripper is open from 2 s to 3 s."""
    return np.stack(
        [0.5 * np.sin(2 * times), 0.3 * np.cos(3 * times), np.where((times > 2) & (times < 3), 0.9, 0.1)], axis=-1
    )


def recording(motion: Callable[[np.ndarray], np.ndarray], seconds: float) -> Recording:
    """Return a recording of a motion."""
    times = np.arange(round(seconds * 1e9) // STEP + 1, dtype=np.int64) * STEP
    return Recording(START + times, motion(times * 1e-9))


def prediction(
    index: int, predict: Callable[[np.ndarray], np.ndarray], state: np.ndarray, horizon: int = 10
) -> Prediction:
    """Return the prediction at the recorded step `index`: `predict` from there on."""
    times = (index + np.arange(horizon)) * STEP * 1e-9
    return Prediction(START + index * STEP, state.astype(np.float32), predict(times), 0.05, 0.08)


def episode(predictions: Sequence[Prediction], recorded: Recording) -> Episode:
    """Return an episode with these predictions."""
    return Episode(
        bag=Path("bags/towel"),
        start_ns=int(recorded.times_ns[0]) if len(recorded.times_ns) else START,
        end_ns=int(recorded.times_ns[-1]) if len(recorded.times_ns) else START,
        predictions=list(predictions),
        recording=recorded,
        ground_truth="joint_states",
        unusable={"no image of camera top yet": 3},
        joint_states=len(predictions) + 3,
        frames={"top": Frames(100, 2, 0.1)},
        problems=[],
    )


def wave_episode(predict: Callable[[np.ndarray], np.ndarray] = wave, seconds: float = 4.0, every: int = 5) -> Episode:
    """Return an episode of the recorded wave, with what `predict` says at every fifth step."""
    recorded = recording(wave, seconds)
    steps = range(0, len(recorded.times_ns), every)
    return episode([prediction(step, predict, recorded.positions[step]) for step in steps], recorded)
