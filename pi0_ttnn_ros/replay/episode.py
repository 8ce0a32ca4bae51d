"""What the replay of one bag found: what the policy predicted, and what was recorded. Knows nothing of ROS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """One inference.

    stamp_ns: that of the observation, nanoseconds
    state: float32 [joints], measured in the observation; rad or m
    actions: float32 [horizon, joints], predicted; action i is meant for `stamp` + i * time_step
    inference_time: seconds that the backend took for the model
    latency: seconds from taking the observation to its chunk, host work included
    reference: as actions, from the backend that it is compared with, from the same noise; None: there is none
    """

    stamp_ns: int
    state: np.ndarray
    actions: np.ndarray
    inference_time: float
    latency: float
    reference: np.ndarray | None = None


@dataclass(frozen=True)
class Scene:
    """What the policy was given at a prediction beside the joints.

    images: uint8 [height, width, 3] RGB by camera
    """

    images: dict[str, np.ndarray]
    instruction: str


@dataclass(frozen=True)
class Recording:
    """What the joints did (or were commanded to do).

    times_ns: int64 [samples], nanoseconds, strictly increasing
    positions: float64 [samples, joints], rad or m
    """

    times_ns: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class Frames:
    """The images of one camera.

    count: how many came
    dropped: how many are missing between them, by their median interval
    longest_gap: seconds between two neighbours at most
    """

    count: int
    dropped: int
    longest_gap: float


@dataclass(frozen=True)
class CommandStream:
    """What a running node commanded.

    count: how many trajectories
    longest_gap: seconds between two of them at most
    violations: in how many of them each limit of each joint was broken
    """

    count: int
    longest_gap: float
    violations: dict[str, int]


@dataclass(frozen=True)
class Episode:
    """The replay of one bag.

    start_ns, end_ns: receive time of the first and last message, nanoseconds
    predictions: in order of their stamps
    unusable: for each reason in words, at how many of the joint states no observation could be made
    joint_states: how many joint states there were: each of them could have begun an inference
    ground_truth: what the predictions are compared with: "joint_states" or "commands"
    problems: what was left out of the bag and why, a line each
    commands: of a running node; None: there was none
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
