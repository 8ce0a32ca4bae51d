"""Write the report on replayed bags: report.json, and report.html made from it.

The names in report.json are those of the dataclasses in `schema`.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.replay.episode import Episode
from pi0_ttnn_ros.replay.report.comparison import Normalize
from pi0_ttnn_ros.replay.report.excerpts import (
    Scenes,
    first_stamp_ns,
    trajectories,
    worst_prediction,
    worst_predictions,
)
from pi0_ttnn_ros.replay.report.page import page
from pi0_ttnn_ros.replay.report.schema import FORMAT, BagReport, Report, Reproduction
from pi0_ttnn_ros.replay.report.summary import summarize
from pi0_ttnn_ros.replay.report.sums import EpisodeMetrics, merge_metrics
from pi0_ttnn_ros.replay.report.thresholds import Thresholds
from pi0_ttnn_ros.replay.report.verdict import Check, combine_checks, judge
from pi0_ttnn_ros.system.machine import cpu_name
from pi0_ttnn_ros.system.package_files import package_version

PACKAGES = ("numpy", "torch", "ttnn", "rosbags", "safetensors", "tokenizers", "pillow")


def bag_report(
    episode: Episode,
    metrics: EpisodeMetrics,
    parameters: Parameters,
    limits: Limits,
    normalize: Normalize,
    thresholds: Thresholds,
    scenes: Scenes,
) -> BagReport:
    """Return the report on one bag. `scenes` is called once, with the stamps of the worst predictions."""
    summary = summarize(metrics)
    start_ns = first_stamp_ns(episode)
    worst = worst_predictions(episode, metrics)
    seen = scenes([episode.predictions[index].stamp_ns for index in worst]) if worst else {}
    return BagReport(
        bag=str(episode.bag),
        date=_utc(datetime.fromtimestamp(episode.start_ns * 1e-9, timezone.utc)),
        duration=(episode.end_ns - episode.start_ns) * 1e-9,
        ground_truth=episode.ground_truth,
        verdict=judge(summary, thresholds),
        summary=summary,
        sums=metrics,
        prediction_times=[round((prediction.stamp_ns - start_ns) * 1e-9, 3) for prediction in episode.predictions],
        trajectories=trajectories(episode, worst, parameters, limits),
        worst=[
            worst_prediction(each, episode, parameters, normalize, seen.get(each.stamp_ns))
            for each in (episode.predictions[index] for index in worst)
        ],
        problems=list(episode.problems),
    )


def reproduction(parameters: Parameters, command: str, checkpoint_digest: str, reference: str) -> Reproduction:
    """Return what is needed to reproduce the report; machine and versions are those of this process."""
    values = {name: value for name, value in asdict(parameters).items() if name != "robot"}
    for limits in values["joint_limits"].values():
        for name in [name for name, value in limits.items() if value is None]:
            del limits[name]  # not set, so not part of a YAML either
    return Reproduction(
        command=command,
        date=_utc(datetime.now(timezone.utc)),
        machine=f"{platform.platform()}, {cpu_name()}, {os.cpu_count()} cores",
        versions={"pi0_ttnn_ros": package_version(), "python": platform.python_version()}
        | {package: _version(package) for package in PACKAGES},
        checkpoint=parameters.checkpoint,
        checkpoint_digest=checkpoint_digest,
        backend=parameters.backend,
        reference=reference,
        parameters=values,
    )


def write_report(
    reports: Sequence[BagReport],
    thresholds: Thresholds,
    reproduction: Reproduction,
    folder: Path,
    left_out: Sequence[str] = (),
) -> bool:
    """Write report.json and report.html into `folder`, and return whether the verdict is a pass.

    `left_out` has a line for each bag that could not be used at all; with such a bag the verdict is not a pass.

    Raises:
        ValueError: there is no bag, or the bags are of different robots.
        OSError: the files cannot be written.
    """
    if not reports:
        raise ValueError("there is no bag to report on")
    summary = summarize(merge_metrics([report.sums for report in reports]))
    verdict = judge(summary, thresholds)
    if len(reports) + len(left_out) > 1:
        verdict = combine_checks([_every_bag(reports, left_out), *verdict.checks])
    report = Report(FORMAT, verdict.passed, verdict, thresholds, summary, list(reports), list(left_out), reproduction)
    text = json.dumps(asdict(report), indent=1, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page(json.loads(text)), encoding="utf-8")
    return verdict.passed


def _every_bag(reports: Sequence[BagReport], left_out: Sequence[str]) -> Check:
    """Check that something was compared of each bag: a useless one must not hide among the others."""
    silent = [
        f"Nothing of {report.bag} could be compared." for report in reports if not report.summary.compared_predictions
    ]
    missing = [*silent, *(f"Left out: {line}" for line in left_out)]
    number = len(reports) + len(left_out)
    sentence = " ".join(missing) or "Something of every bag was compared."
    return Check("every_bag", not missing, number - len(missing), number, "", sentence)


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
