"""Check a recorded bag against a robot's parameter file, with a remedy for each problem.

Exit status: 0 the bag fits, 1 it does not, 2 an error.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ttnn_ros.cli.arguments import add_robot, require

if TYPE_CHECKING:
    from pi0_ttnn_ros.replay.bag_check import BagCheck, Finding, Input

EXAMPLES = """
  pi0-ttnn bag-info recording --robot aloha
  pi0-ttnn bag-info recording/recording_0.mcap --robot my_robot.yaml --json
"""
HEADINGS = ("input", "topic", "messages", "rate", "longest gap", "delay", "content")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="folder of a bag, or a storage file")
    add_robot(parser, required=True)
    parser.add_argument("--namespace", default="", help="namespace of the robot's topics in the bag")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the check; return 1 when the bag does not fit."""
    require("rosbags", "replay")
    from pi0_ttnn_ros.bags.reader import open_bag
    from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
    from pi0_ttnn_ros.replay.bag_check import check_bag
    from pi0_ttnn_ros.system.package_files import robot_file

    file = robot_file(arguments.robot)
    # The parameter is required, but a bag is checked without a checkpoint.
    parameters = parameters_from_yaml(file, {"checkpoint": "none"})
    with open_bag(arguments.bag) as bag:
        check = check_bag(bag, parameters, arguments.namespace)
    if arguments.json:
        content = {"bag": str(arguments.bag), "robot": str(file), "fits": check.is_usable, **asdict(check)}
        print(json.dumps(content, indent=2))
    else:
        print(report(arguments.bag, file, check))
    return 0 if check.is_usable else 1


def table(check: BagCheck) -> str:
    """Return a table of the topics."""
    rows = [HEADINGS, *(_row(entry) for entry in check.inputs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def report(bag: Path, robot: Path, check: BagCheck) -> str:
    """Return the whole check in words."""
    lines = [f"{bag}: {check.duration:.1f} s, checked against {robot}", "", table(check), ""]
    if check.skew:
        lines.append(
            f"stamps of images and joint states: {_seconds(check.skew[0])} apart in the median, "
            f"{_seconds(check.skew[1])} at most"
        )
    if check.observations:
        lines.append(f"the node would infer {check.observations} times")
        lines += [
            f"  joint states without an observation: {count}, {reason}" for reason, count in check.unusable.items()
        ]
    lines += [_line(finding) for finding in sorted(check.findings, key=lambda finding: not finding.is_error)]
    lines.append("fits" if check.is_usable else "does not fit")
    return "\n".join(lines)


def _row(entry: Input) -> tuple[str, ...]:
    if not entry.count:
        return (entry.use, entry.topic, "none", "", "", "", "")
    several = entry.rate > 0
    return (
        entry.use,
        entry.topic,
        str(entry.count),
        f"{entry.rate:.1f} Hz" if several else "",
        _seconds(entry.longest_gap) if several else "",
        f"{_seconds(entry.delay[0])} to {_seconds(entry.delay[2])}" if entry.delay else "",
        entry.content,
    )


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if abs(value) >= 1.0 else f"{value * 1e3:.1f} ms"


def _line(finding: Finding) -> str:
    subject = f"{finding.topic}: " if finding.topic else ""
    remedy = f"\n  -> {finding.remedy}" if finding.remedy else ""
    return f"{finding.severity}: {subject}{finding.text}{remedy}"
