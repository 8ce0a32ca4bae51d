"""What report.json holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi0_ttnn_ros.replay.report.summary import Summary
from pi0_ttnn_ros.replay.report.sums import EpisodeMetrics
from pi0_ttnn_ros.replay.report.thresholds import Thresholds
from pi0_ttnn_ros.replay.report.verdict import Verdict

FORMAT = 2


@dataclass(frozen=True)
class DrawnChunk:
    """A predicted chunk: [points] seconds from the start, [points][joints] rad or m."""

    times: list[float]
    positions: list[list[float | None]]


@dataclass(frozen=True)
class Trajectories:
    """Part of an episode, thinned out to be drawn: seconds from the start, rad or m; None in gaps.

    start, end: of the part; where the episode is longer than a minute, about its largest error
    times, recorded: [samples] and [samples][joints]
    chunks: every so manieth
    position_min, position_max: the limits [joints]
    """

    start: float
    end: float
    times: list[float]
    recorded: list[list[float | None]]
    chunks: list[DrawnChunk]
    position_min: list[float]
    position_max: list[float]


@dataclass(frozen=True)
class JointError:
    """Mean absolute error of one joint in one prediction, rad or m, and in the normalised space."""

    name: str
    mae: float
    normalized_mae: float


@dataclass(frozen=True)
class WorstPrediction:
    """A prediction with a large error.

    stamp_ns: of its observation, nanoseconds; time: the same in seconds from the start
    error: mean absolute normalised error; None: its actions are not finite
    joints: largest normalised error first
    times, predicted, recorded: of the first of these joints over the compared steps: seconds from the start, rad or m
    images: JPEG as data URI, by camera
    """

    stamp_ns: int
    time: float
    error: float | None
    instruction: str
    joints: list[JointError]
    times: list[float]
    predicted: list[float]
    recorded: list[float]
    images: dict[str, str]


@dataclass(frozen=True)
class BagReport:
    """Of one bag. Its start is its earliest stamp: receive times may be those of another clock.

    bag: its path
    date: when it was recorded, UTC
    duration: seconds
    ground_truth: what the predictions are compared with: "joint_states" or "commands"
    verdict, summary: on this bag alone
    sums: what `summary` is made of; merges exactly
    prediction_times: of each prediction, seconds from the start; in this order are sums.prediction_error, .latency and
        .inference_time
    trajectories, worst: to be drawn
    problems: what was left out of the bag, a line each
    """

    bag: str
    date: str
    duration: float
    ground_truth: str
    verdict: Verdict
    summary: Summary
    sums: EpisodeMetrics
    prediction_times: list[float]
    trajectories: Trajectories
    worst: list[WorstPrediction]
    problems: list[str]


@dataclass(frozen=True)
class Reproduction:
    """All that is needed to do it again.

    command: the command line
    date: of the report, UTC
    machine: platform, processor and number of cores
    versions: of Python, of this package and of those that decide the result; "" where one is not installed
    checkpoint, checkpoint_digest: folder, and SHA-256 of its files
    backend: what ran the model
    reference: what it was compared with: another backend, or recorded chunks; "" for neither
    parameters: of the node, by name
    """

    command: str
    date: str
    machine: str
    versions: dict[str, str]
    checkpoint: str
    checkpoint_digest: str
    backend: str
    reference: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """report.json. `verdict` and `summary` are on all bags together.

    left_out: bags that could not be used at all, a line each
    """

    format: int
    passed: bool
    verdict: Verdict
    thresholds: Thresholds
    summary: Summary
    bags: list[BagReport]
    left_out: list[str]
    reproduction: Reproduction
