"""Check the software, the computer and the card, with a remedy for each problem.

Works without a card and without ROS 2. What cannot be read is said to be unknown.

Exit status: 0 no problem, 1 warnings, 2 errors: the node cannot run on the ttnn backend.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pi0_ttnn_ros.doctor.finding import Finding

EXAMPLES = """
  pi0-ttnn doctor
  pi0-ttnn doctor --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a page")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; return the exit status."""
    from pi0_ttnn_ros.doctor.checks import all_checks
    from pi0_ttnn_ros.doctor.finding import exit_status

    findings = all_checks(Path("/"), os.environ)
    print(json.dumps([asdict(finding) for finding in findings], indent=2) if arguments.json else page(findings))
    return exit_status(findings)


def page(findings: list[Finding]) -> str:
    """Return a line per finding, with its remedy below."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:7}  {finding.subject:{width}}  {finding.text}")
        if finding.remedy:
            lines.append(f"{'':9}-> {finding.remedy}")
    return "\n".join(lines)
