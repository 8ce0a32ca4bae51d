"""The replay of one bag as data: what the policy predicted and what was recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """One inference.

    Attributes:
        stamp_ns: stamp of the observation.
        state: float32 [joints], rad or m. Measured, from the observation.
        actions: float32 [horizon, joints], rad or m. Predicted; action i is meant for stamp_ns + i * time_step.
        inference_time: time of the model on the backend, s.
        latency: from taking the observation to its chunk, with the work on the host, s.
        reference: like actions, of the reference; None: there is none.
    """

    stamp_ns: int
    state: np.ndarray
    actions: np.ndarray
    inference_time: float
    latency: float
    reference: np.ndarray | None = None


@dataclass(frozen=True)
class Scene:
    """What the policy was given for a prediction, apart from the joints.

    Attributes:
        images: uint8 [height, width, 3], RGB, by camera.
    """

    images: dict[str, np.ndarray]
    instruction: str


@dataclass(frozen=True)
class Recording:
    """The measured or commanded motion of the joints.

    Attributes:
        times_ns: int64 [samples], strictly increasing.
        positions: float64 [samples, joints], rad or m.
    """

    times_ns: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class Frames:
    """The regularity of one camera's images.

    Attributes:
        count: number of images.
        dropped: number of images missing between them, by their median interval.
        longest_gap: between two neighbours, s.
    """

    count: int
    dropped: int
    longest_gap: float


@dataclass(frozen=True)
class CommandStream:
    """What a running node commanded.

    Attributes:
        count: number of trajectories.
        longest_gap: between two of them, s.
        violations: number of trajectories that exceed a limit of a joint, by limit and joint in words.
    """

    count: int
    longest_gap: float
    violations: dict[str, int]


@dataclass(frozen=True)
class Episode:
    """The replay of one bag.

    Attributes:
        bag: its path.
        start_ns: receive time of the first message.
        end_ns: receive time of the last message.
        predictions: in order of their stamps.
        recording: the motion that the predictions are compared with.
        ground_truth: what the recording is: "joint_states" or "commands".
        unusable: number of joint states without an observation, by reason.
        joint_states: number of joint states; each could have started an inference.
        frames: by camera.
        problems: what was left out of the bag and why, a line each.
        commands: of a running node; None: there was none.
    """

    bag: Path
    start_ns: int
    end_ns: int
    predictions: list[Prediction]
    recording: Recording
    ground_truth: str
    unusable: dict[str, int]
    joint_states: int
    frames: dict[str, Frames]
    problems: list[str]
    commands: CommandStream | None = None
