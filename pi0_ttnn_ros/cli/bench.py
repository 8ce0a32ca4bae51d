"""Measure the speed of the node, of replay or of the model."""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path

from pi0_ttnn_core.backend import BackendError
from pi0_ttnn_ros.cli.arguments import add_command, add_dtype, add_model, positive, require
from pi0_ttnn_ros.execution.chunk_executor import STRATEGIES

EXAMPLES = """
  pi0-ttnn bench node --strategy rtc --inference-time 0.3
  pi0-ttnn bench replay-decoding --seconds 60
  pi0-ttnn bench model --cameras 3 --lerobot
"""
NODE_EXAMPLES = """
  pi0-ttnn bench node
  pi0-ttnn bench node --strategy rtc --inference-time 0.3 --seconds 60
"""
REPLAY_DECODING_EXAMPLES = """
  pi0-ttnn bench replay-decoding
  pi0-ttnn bench replay-decoding --seconds 60 --repeats 10
"""
MODEL_EXAMPLES = """
  pi0-ttnn bench model
  pi0-ttnn bench model --config pi05 --cameras 3 --lerobot
  pi0-ttnn bench model --checkpoint checkpoint --dtype bfloat16
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a sub-command per bench."""
    benches = parser.add_subparsers(required=True, metavar="BENCH")

    text = "Measure the node's latency on top of the model, and the regularity of its commands."
    node = add_command(benches, "node", text, NODE_EXAMPLES)
    node.add_argument("--seconds", type=float, default=20.0, help="how long to measure (default 20)")
    node.add_argument(
        "--strategy", choices=STRATEGIES, default="asynchronous", help="how chunks are executed (default asynchronous)"
    )
    node.add_argument("--inference-time", type=float, default=0.0, help="shortest inference, s (default 0)")
    node.set_defaults(bench=_node)

    text = "Measure how much faster than real time a bag is read and decoded."
    decoding = add_command(benches, "replay-decoding", text, REPLAY_DECODING_EXAMPLES)
    decoding.add_argument("--seconds", type=float, default=20.0, help="length of the bag (default 20)")
    decoding.add_argument(
        "--repeats", type=positive, default=3, metavar="N", help="repetitions, of which the fastest counts (default 3)"
    )
    decoding.set_defaults(bench=_replay_decoding)

    text = "Measure time and memory of one inference on the torch backend."
    model = add_command(benches, "model", text, MODEL_EXAMPLES)
    add_model(model, default="pi0")
    model.add_argument(
        "--cameras", type=int, choices=(1, 2, 3), default=1, help="cameras; the other slots are empty (default 1)"
    )
    add_dtype(model)
    model.add_argument(
        "--repeats", type=positive, default=2, metavar="N", help="repetitions, of which the fastest counts (default 2)"
    )
    model.add_argument("--lerobot", action="store_true", help="measure LeRobot as well, with the same weights")
    model.set_defaults(bench=_model)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the result."""
    arguments.bench(arguments)
    return 0


def _node(arguments: argparse.Namespace) -> None:
    if importlib.util.find_spec("rclpy") is None:
        raise BackendError("this needs ROS 2: source it and this package")
    from pi0_ttnn_ros.bench.node import bench

    bench(arguments.seconds, arguments.strategy, arguments.inference_time)


def _replay_decoding(arguments: argparse.Namespace) -> None:
    require("rosbags", "replay")
    from pi0_ttnn_ros.bench.replay_decoding import bench

    bench(arguments.seconds, arguments.repeats)


def _model(arguments: argparse.Namespace) -> None:
    from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint
    from pi0_ttnn_ros.bench.model import bench

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            checkpoint = Path(folder)
            make_checkpoint(arguments.config, checkpoint, seed=0)
        bench(checkpoint, arguments.cameras, arguments.dtype, arguments.repeats, arguments.lerobot)
