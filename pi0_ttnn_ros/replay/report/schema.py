"""The contents of report.json."""

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
    """A predicted chunk.

    Attributes:
        times: [points], s from the start.
        positions: [points][joints], rad or m; None: not finite.
    """

    times: list[float]
    positions: list[list[float | None]]


@dataclass(frozen=True)
class Trajectories:
    """A window of an episode of at most a minute, around its largest error, thinned out to be drawn.

    Attributes:
        start: of the window, s from the start of the bag.
        end: of the window.
        times: [samples], s from the start of the bag.
        recorded: [samples][joints], rad or m; None in gaps.
        chunks: some of the predicted chunks, evenly chosen.
        position_min: [joints]. Limits, rad or m.
        position_max: [joints].
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
    """Mean absolute error of one joint in one prediction: rad or m, and in the checkpoint's normalised space."""

    name: str
    mae: float
    normalized_mae: float


@dataclass(frozen=True)
class WorstPrediction:
    """A prediction with a large error.

    Attributes:
        stamp_ns: stamp of its observation.
        time: the same, in s from the start of the bag.
        error: mean absolute normalised error; None: its actions are not finite.
        instruction: of its observation.
        joints: largest normalised error first.
        times: [compared steps], s from the start of the bag.
        predicted: [compared steps], of the first of `joints`, rad or m.
        recorded: [compared steps], of the same joint.
        images: JPEG as data URI, by camera.
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
    """The report on one bag. Its start is its earliest stamp: receive times may be those of another clock.

    Attributes:
        bag: its path.
        date: of the recording, UTC.
        duration: s.
        ground_truth: what the predictions are compared with: "joint_states" or "commands".
        verdict: on this bag alone.
        summary: of this bag alone.
        sums: what `summary` is computed from; they merge exactly.
        prediction_times: s from the start, in the order of the lists in `sums` with one value per prediction.
        trajectories: to be drawn.
        worst: the predictions with the largest errors.
        problems: what was left out of the bag and why, a line each.
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
    """What is needed to reproduce the report.

    Attributes:
        command: the command line.
        date: of the report, UTC.
        machine: platform, processor and number of cores.
        versions: of Python, this package and those that influence the result; "": not installed.
        checkpoint: its folder.
        checkpoint_digest: SHA-256 of its files.
        backend: that ran the model.
        reference: another backend, or "recorded" for recorded chunks; "" for none.
        parameters: of the node, by name.
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
    """The whole of report.json.

    Attributes:
        format: FORMAT.
        passed: whether the verdict is a pass.
        verdict: on all bags together.
        thresholds: that were applied.
        summary: of all bags together.
        bags: a report on each.
        left_out: bags that could not be used at all, a line each.
        reproduction: how to reproduce the report.
    """

    format: int
    passed: bool
    verdict: Verdict
    thresholds: Thresholds
    summary: Summary
    bags: list[BagReport]
    left_out: list[str]
    reproduction: Reproduction
