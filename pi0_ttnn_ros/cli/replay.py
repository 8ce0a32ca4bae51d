"""Run recorded bags through the policy, and report how far it is from what was done.

Exit status: 0 the verdict passes, 1 it does not, 2 an error.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from pi0_ttnn_core.backend import BACKENDS
from pi0_ttnn_ros.cli.arguments import add_dtype, add_precision, add_robot, positive, require
from pi0_ttnn_ros.system.scheduling import OPENMP_PASSIVE_WAIT

EXAMPLES = """
  pi0-ttnn replay recording --robot my_robot.yaml --checkpoint checkpoint
  pi0-ttnn replay recordings --robot aloha --checkpoint checkpoint --jobs 4 --out report
  pi0-ttnn replay recording --robot aloha --checkpoint checkpoint --backend ttnn --against torch --every 10
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="a bag, or a folder of bags")
    parser.add_argument("--checkpoint", required=True, metavar="DIR")
    add_robot(parser, default="aloha")
    parser.add_argument(
        "--out", type=Path, default=Path("replay"), metavar="DIR", help="of the report (default replay)"
    )
    parser.add_argument("--backend", choices=BACKENDS, help="what runs the model (default: the parameter file's)")
    add_precision(parser, default=None)
    add_dtype(parser, default=None)
    parser.add_argument("--instruction", help="where the bag has none")
    parser.add_argument("--seed", type=int, help="of the noise")
    parser.add_argument(
        "--against",
        choices=(*BACKENDS, "recorded"),
        default="",
        help="compare every prediction with another backend's, or with the chunks that a node recorded",
    )
    parser.add_argument(
        "--truth", choices=("joint_states", "commands"), default="joint_states", help="what the predictions should be"
    )
    parser.add_argument("--every", type=positive, default=1, metavar="K", help="infer at every K-th occasion only")
    parser.add_argument("--namespace", default="", help="of the node and its topics")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="bags at a time, each in a process")
    parser.add_argument("--live", action="store_true", help="play the bag into the running node and judge its answers")


def run(arguments: argparse.Namespace) -> int:
    """Replay, write the report, and return 1 when the verdict does not pass."""
    require("rosbags", "replay")
    # Before torch is imported.
    os.environ.update(OPENMP_PASSIVE_WAIT | os.environ)
    from pi0_ttnn_ros.replay.open_loop import Comparison
    from pi0_ttnn_ros.replay.runner import Options, replay_bags
    from pi0_ttnn_ros.system.package_files import robot_file

    names = ("checkpoint", "backend", "precision", "dtype", "instruction", "seed")
    options = Options(
        robot=robot_file(arguments.robot),
        overrides={name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None},
        namespace=arguments.namespace,
        comparison=Comparison(arguments.truth, arguments.against, arguments.every),
        live=arguments.live,
        jobs=arguments.jobs,
        out=arguments.out,
    )
    try:
        outcome = replay_bags(arguments.bags, options, shlex.join(arguments.words))
    except KeyboardInterrupt:
        print(f"interrupted; the same command resumes from {arguments.out}", file=sys.stderr)
        raise
    for line in outcome.left_out:
        print(f"pi0-ttnn replay: {line}", file=sys.stderr)
    if outcome.passed is None:
        return 2
    print(f"{'passed' if outcome.passed else 'failed'}: {arguments.out / 'report.html'}")
    return 0 if outcome.passed else 1
