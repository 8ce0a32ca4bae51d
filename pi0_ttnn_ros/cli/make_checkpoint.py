"""Write a checkpoint of random weights in LeRobot's layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from pi0_ttnn_core.configs import CONFIGS

EXAMPLES = """
  pi0-ttnn make-checkpoint --config tiny --out tiny
  pi0-ttnn make-checkpoint --config tiny --out tiny_arm --arms 1
  pi0-ttnn make-checkpoint --config pi05 --out random_pi05 --seed 1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--config", choices=CONFIGS, required=True, help="model sizes")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the checkpoint")
    parser.add_argument("--arms", type=int, choices=(1, 2), default=2, help="ALOHA arms of the robot (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default 0)")


def run(arguments: argparse.Namespace) -> int:
    """Write the checkpoint."""
    from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint

    make_checkpoint(arguments.config, arguments.out, arguments.seed, arguments.arms)
    print(f"wrote a random {arguments.config} checkpoint to {arguments.out}")
    return 0
