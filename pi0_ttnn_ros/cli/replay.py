"""Replay recorded bags through the policy, and report how far it is from the recording.

Exit status: 0 the verdict is a pass, 1 it is not, 2 an error.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pi0_ttnn_core.backend import BACKENDS
from pi0_ttnn_ros.cli.arguments import FROM_FILE, add_dtype, add_precision, add_robot, add_verify, positive, require
from pi0_ttnn_ros.replay.options import GROUND_TRUTHS, MEASURED, MODES, OPEN_LOOP, RECORDED, Options
from pi0_ttnn_ros.system.scheduling import OPENMP_PASSIVE_WAIT

EXAMPLES = """
  pi0-ttnn replay recording --robot my_robot.yaml --checkpoint checkpoint
  pi0-ttnn replay recordings --robot aloha --checkpoint checkpoint --jobs 4 --out report
  pi0-ttnn replay recording --robot aloha --checkpoint checkpoint --backend ttnn --reference torch --stride 10
"""
BAR = "{desc}: {percentage:3.0f} % {bar} {elapsed}, {remaining} left"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="a bag, or a folder of bags")
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="folder of the checkpoint")
    add_robot(parser, default="aloha")
    parser.add_argument(
        "--out", type=Path, default=Path("replay"), metavar="DIR", help="folder for the report (default replay)"
    )
    parser.add_argument("--backend", choices=BACKENDS, help=f"what runs the model (default {FROM_FILE})")
    add_precision(parser, default=None)
    add_dtype(parser, default=None)
    parser.add_argument("--instruction", help="instruction, for a bag without one")
    parser.add_argument("--seed", type=int, help=f"seed of the flow noise (default {FROM_FILE})")
    parser.add_argument(
        "--ground-truth",
        choices=GROUND_TRUTHS,
        default=MEASURED,
        help="recorded motion to compare the predictions with (default joint_states)",
    )
    parser.add_argument(
        "--reference",
        choices=(*BACKENDS, RECORDED),
        default="",
        help="compare with another backend's predictions, or with the chunks that a node recorded (default neither)",
    )
    parser.add_argument(
        "--stride", type=positive, default=1, metavar="N", help="infer at every N-th observation (default 1)"
    )
    parser.add_argument("--namespace", default="", help="namespace of the node and its topics")
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="bags at a time, each in its own process (default 1)"
    )
    add_verify(parser)
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=OPEN_LOOP,
        help="open-loop: without a node, as fast as possible; live: play the bag into the running node, in real time, "
        "and judge its chunks and commands (default open-loop)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Replay, write the report, and return 1 if the verdict is not a pass."""
    require("rosbags", "replay")
    # Before torch is imported.
    os.environ.update(OPENMP_PASSIVE_WAIT | os.environ)
    from pi0_ttnn_core.checkpoints.digests import forget_digests
    from pi0_ttnn_ros.replay.runner import replay_bags
    from pi0_ttnn_ros.system.package_files import robot_file

    if arguments.verify:
        forget_digests()
    names = ("checkpoint", "backend", "precision", "dtype", "instruction", "seed")
    options = Options(
        robot=robot_file(arguments.robot),
        overrides={name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None},
        namespace=arguments.namespace,
        ground_truth=arguments.ground_truth,
        reference=arguments.reference,
        stride=arguments.stride,
        mode=arguments.mode,
        jobs=arguments.jobs,
        out=arguments.out,
    )
    try:
        with _progress_bar() as progress:
            outcome = replay_bags(arguments.bags, options, shlex.join(arguments.words), progress)
    except KeyboardInterrupt:
        print(f"interrupted; the same command resumes from {arguments.out}", file=sys.stderr)
        raise
    for line in outcome.left_out:
        print(f"pi0-ttnn replay: {line}", file=sys.stderr)
    if outcome.passed is None:
        return 2
    print(f"{'passed' if outcome.passed else 'failed'}: {arguments.out / 'report.html'}")
    return 0 if outcome.passed else 1


@contextmanager
def _progress_bar() -> Iterator[Callable[[str, float], None]]:
    """Yield a function that shows a bag's name and the fraction of all bags done, if stderr is a terminal."""
    from tqdm import tqdm

    with tqdm(total=1.0, bar_format=BAR, disable=None) as bar:

        def show(name: str, fraction: float) -> None:
            bar.set_description_str(name, refresh=False)
            bar.update(fraction - bar.n)

        yield show
