"""Describe a checkpoint and how observations are processed, and check that it fits a robot.

Exit status: 0 the checkpoint can run (on the robot), 1 it cannot, 2 an error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pi0_ttnn_ros.cli.arguments import add_robot

EXAMPLES = """
  pi0-ttnn inspect checkpoint
  pi0-ttnn inspect checkpoint --robot aloha
  pi0-ttnn inspect checkpoint --robot my_robot.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="DIR", help="folder of the checkpoint")
    add_robot(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; return 1 when the checkpoint cannot run (on the robot)."""
    from pi0_ttnn_core.processing.inspection import inspect
    from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
    from pi0_ttnn_ros.system.package_files import robot_file

    robot = None
    if arguments.robot:
        robot = parameters_from_yaml(robot_file(arguments.robot), {"checkpoint": str(arguments.checkpoint)}).robot
    report, can_run = inspect(arguments.checkpoint, robot)
    print(report)
    return 0 if can_run else 1
