"""The report on replayed bags: report.json, and report.html made of it. Knows nothing of ROS.

The names in report.json are those of the dataclasses: `Report` is the whole of it.
"""

from __future__ import annotations

import base64
import io
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from pi0_ttnn_ros.machine import cpu_name
from pi0_ttnn_ros.package_files import package_file
from pi0_ttnn_ros.parameters import Parameters
from pi0_ttnn_ros.replay_episode import Episode, Scene, Tick
from pi0_ttnn_ros.replay_metrics import EpisodeMetrics, Normalize, compare, merged, recorded_at
from pi0_ttnn_ros.replay_page import page
from pi0_ttnn_ros.replay_summary import Summary, summarize
from pi0_ttnn_ros.replay_verdict import Check, Thresholds, Verdict, judge, verdict_of
from pi0_ttnn_ros.safety import Limits

FORMAT = 1
WORST = 5  # ticks of a bag that are shown with their images
WORST_APART = 1.0  # seconds between two of them
THUMBNAIL, QUALITY = 256, 80  # pixels of width, JPEG
WINDOW = 60.0  # seconds of an episode that are drawn joint by joint
RECORDED_POINTS, CHUNKS, CHUNK_POINTS = 600, 60, 13  # drawn at most, of one joint
PACKAGES = ("numpy", "torch", "ttnn", "rosbags", "safetensors", "tokenizers", "pillow")


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
    """Mean absolute error of one joint in one tick, rad or m, and in the normalised space."""

    name: str
    mae: float
    normalized_mae: float


@dataclass(frozen=True)
class WorstTick:
    """A tick with a large error.

    stamp: of its observation, nanoseconds; time: the same in seconds from the start
    error: mean absolute normalised error; None: its actions are not finite
    joints: largest normalised error first
    times, predicted, recorded: of the first of these joints over the compared steps: seconds from the start, rad or m
    images: JPEG as data URI, by camera
    """

    stamp: int
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
    truth: what the predictions are compared with: "joint_states" or "commands"
    verdict, summary: on this bag alone
    sums: what `summary` is made of; merges exactly
    tick_times: of each tick, seconds from the start; sums.tick_error, .latency, .inference_time are in this order
    trajectories, worst: to be drawn
    problems: what was left out of the bag, a line each
    """

    bag: str
    date: str
    duration: float
    truth: str
    verdict: Verdict
    summary: Summary
    sums: EpisodeMetrics
    tick_times: list[float]
    trajectories: Trajectories
    worst: list[WorstTick]
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
    against: what it was compared with: another backend, or recorded chunks; "" for neither
    parameters: of the node, by name
    """

    command: str
    date: str
    machine: str
    versions: dict[str, str]
    checkpoint: str
    checkpoint_digest: str
    backend: str
    against: str
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


# Stamps of ticks -> what was seen at them; those whose images cannot be read are left out.
Scenes = Callable[[Sequence[int]], Mapping[int, Scene]]


def bag_report(
    episode: Episode,
    metrics: EpisodeMetrics,
    parameters: Parameters,
    limits: Limits,
    normalize: Normalize,
    thresholds: Thresholds,
    scenes: Scenes,
) -> BagReport:
    """Return the report on one bag. `scenes` is called once, with the stamps of the worst ticks."""
    summary = summarize(metrics)
    start = _start(episode)
    worst = _worst(episode, metrics)
    seen = scenes([episode.ticks[index].stamp for index in worst]) if worst else {}
    return BagReport(
        bag=str(episode.bag),
        date=_utc(datetime.fromtimestamp(episode.start * 1e-9, timezone.utc)),
        duration=(episode.end - episode.start) * 1e-9,
        truth=episode.truth,
        verdict=judge(summary, thresholds),
        summary=summary,
        sums=metrics,
        tick_times=[round((tick.stamp - start) * 1e-9, 3) for tick in episode.ticks],
        trajectories=_trajectories(episode, worst, parameters, limits),
        worst=[
            _worst_tick(episode.ticks[index], episode, parameters, normalize, seen.get(episode.ticks[index].stamp))
            for index in worst
        ],
        problems=list(episode.problems),
    )


def reproduction(parameters: Parameters, command: str, checkpoint_digest: str, against: str) -> Reproduction:
    """Return what is needed to do it again, from this process and machine."""
    values = {each.name: getattr(parameters, each.name) for each in fields(parameters) if each.name != "robot"}
    return Reproduction(
        command=command,
        date=_utc(datetime.now(timezone.utc)),
        machine=f"{platform.platform()}, {cpu_name()}, {os.cpu_count()} cores",
        versions={"pi0_ttnn_ros": _own_version(), "python": platform.python_version()}
        | {package: _version(package) for package in PACKAGES},
        checkpoint=parameters.checkpoint,
        checkpoint_digest=checkpoint_digest,
        backend=parameters.backend,
        against=against,
        parameters=values,
    )


def write_report(
    reports: Sequence[BagReport],
    thresholds: Thresholds,
    reproduction: Reproduction,
    folder: Path,
    left_out: Sequence[str] = (),
) -> bool:
    """Write report.json and report.html into `folder`; return whether the verdict is a pass.

    `left_out` has a line for each bag that could not be used at all: with one the verdict is no pass.

    Raises:
        ValueError: there is no bag, or the bags are of different robots.
        OSError: the files cannot be written.
    """
    if not reports:
        raise ValueError("there is no bag to report on")
    summary = summarize(merged([report.sums for report in reports]))
    verdict = judge(summary, thresholds)
    if len(reports) + len(left_out) > 1:
        verdict = verdict_of([_every_bag(reports, left_out), *verdict.checks])
    report = Report(FORMAT, verdict.passed, verdict, thresholds, summary, list(reports), list(left_out), reproduction)
    text = json.dumps(asdict(report), indent=1, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page(json.loads(text)), encoding="utf-8")
    return verdict.passed


def _start(episode: Episode) -> int:
    stamps = [
        int(times[0]) for times in (episode.recording.times, [tick.stamp for tick in episode.ticks]) if len(times)
    ]
    return min(stamps, default=episode.start)


def _worst(episode: Episode, metrics: EpisodeMetrics) -> list[int]:
    """Return the ticks with the largest errors, the largest first and some time apart; what is not finite is worst."""
    errors: dict[int, float] = {
        index: error if error is not None and np.isfinite(tick.actions).all() else np.inf
        for index, (tick, error) in enumerate(zip(episode.ticks, metrics.tick_error, strict=True))
        if error is not None or not np.isfinite(tick.actions).all()
    }
    chosen: list[int] = []
    for index in sorted(errors, key=lambda index: -errors[index]):
        stamp = episode.ticks[index].stamp
        if all(abs(stamp - episode.ticks[other].stamp) >= WORST_APART * 1e9 for other in chosen):
            chosen.append(index)
        if len(chosen) == WORST:
            break
    return chosen


def _trajectories(episode: Episode, worst: Sequence[int], parameters: Parameters, limits: Limits) -> Trajectories:
    origin, recording = _start(episode), episode.recording
    last = max([int(recording.times[-1])] if len(recording.times) else [origin], default=origin)
    length = (max([last, *(tick.stamp for tick in episode.ticks[-1:])]) - origin) * 1e-9
    middle = (episode.ticks[worst[0]].stamp - origin) * 1e-9 if worst else 0.0
    start = min(max(middle - WINDOW / 2, 0.0), max(length - WINDOW, 0.0))
    end = min(start + WINDOW, length)
    times = np.linspace(start, end, RECORDED_POINTS)
    recorded = recorded_at(recording, origin + np.round(times * 1e9).astype(np.int64), parameters.joint_state_timeout)
    ticks = [tick for tick in episode.ticks if start <= (tick.stamp - origin) * 1e-9 <= end]
    every = -(-len(ticks) // CHUNKS) or 1
    return Trajectories(
        start=start,
        end=end,
        times=times.round(3).tolist(),
        recorded=_rounded(recorded),
        chunks=[_drawn(tick, (tick.stamp - origin) * 1e-9, parameters.time_step) for tick in ticks[::every]],
        position_min=limits.position_min.tolist(),
        position_max=limits.position_max.tolist(),
    )


def _drawn(tick: Tick, start: float, time_step: float) -> DrawnChunk:
    steps = np.unique(np.linspace(0, len(tick.actions) - 1, CHUNK_POINTS).round().astype(int))
    return DrawnChunk((start + steps * time_step).round(3).tolist(), _rounded(tick.actions[steps]))


def _rounded(positions: np.ndarray) -> list[list[float | None]]:
    """To a tenth of a millimetre or milliradian, finer than can be drawn; None where they are not finite."""
    finer = positions.astype(np.float64).round(4).tolist()
    return [[value if np.isfinite(value) else None for value in point] for point in finer]


def _worst_tick(
    tick: Tick, episode: Episode, parameters: Parameters, normalize: Normalize, scene: Scene | None
) -> WorstTick:
    compared = compare([tick], episode.recording, parameters, normalize)
    steps = np.flatnonzero(compared.steps[0])
    time = (tick.stamp - _start(episode)) * 1e-9
    joints, predicted, recorded = [], np.empty(0), np.empty(0)
    if len(steps):
        actions, truth = compared.actions[0, steps], compared.truth[0, steps]
        errors = np.abs(actions - truth).mean(axis=0)
        normalized = np.abs(compared.normalized_actions - compared.normalized_truth)[0, steps].mean(axis=0)
        order = np.argsort(-normalized)
        predicted, recorded = actions[:, order[0]], truth[:, order[0]]
        joints = [
            JointError(parameters.joint_names[joint], float(errors[joint]), float(normalized[joint])) for joint in order
        ]
    return WorstTick(
        stamp=tick.stamp,
        time=time,
        error=float(np.mean([joint.normalized_mae for joint in joints])) if joints else None,
        instruction=scene.instruction if scene else "",
        joints=joints,
        times=(time + steps * parameters.time_step).round(3).tolist(),
        predicted=predicted.round(4).tolist(),
        recorded=recorded.round(4).tolist(),
        images={camera: thumbnail(image) for camera, image in scene.images.items()} if scene else {},
    )


def thumbnail(image: np.ndarray) -> str:
    """Return a small JPEG of an RGB image (uint8 [height, width, 3]) as a data URI."""
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _every_bag(reports: Sequence[BagReport], left_out: Sequence[str]) -> Check:
    """One bag of which nothing could be compared must not hide among the others."""
    silent = [f"Of {report.bag} nothing could be compared." for report in reports if not report.summary.compared_ticks]
    missing = [*silent, *(f"Left out: {line}" for line in left_out)]
    number = len(reports) + len(left_out)
    sentence = " ".join(missing) or "Of every bag something was compared."
    return Check("every_bag", not missing, number - len(missing), number, "", sentence)


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _own_version() -> str:
    # pip knows it; where colcon built it, the manifest does.
    manifest = package_file(".", "package.xml") if not _version("pi0_ttnn_ros") else None
    return ElementTree.parse(manifest).findtext("version", "") if manifest else _version("pi0_ttnn_ros")
