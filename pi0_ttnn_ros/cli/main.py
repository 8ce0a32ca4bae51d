"""The command `pi0-ttnn`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ttnn_core.arguments import positive
from pi0_ttnn_core.backends import BACKENDS, DTYPES, PRECISIONS, BackendError, load_backend
from pi0_ttnn_core.bench_model import bench_model
from pi0_ttnn_core.checkpoint import CheckpointError, open_checkpoint
from pi0_ttnn_core.configs import CONFIGS
from pi0_ttnn_core.graph import read_graph
from pi0_ttnn_core.graph_report import cost, page
from pi0_ttnn_core.inspection import inspect
from pi0_ttnn_core.mock_wormhole import HARVESTED_ROWS, select_mock_wormhole
from pi0_ttnn_core.model_inputs import InputError, model_inputs
from pi0_ttnn_core.random_checkpoint import make_checkpoint
from pi0_ttnn_core.robot import RobotError, robot_from_yaml
from pi0_ttnn_core.tokenizer import TokenizerError
from pi0_ttnn_core.validation import Validation, validate

USER_ERRORS = (CheckpointError, RobotError, TokenizerError, BackendError, InputError, OSError)


def main() -> None:
    """Run the command; a bad input ends it with one message and status 2."""
    parser = _parser()
    arguments, rest = parser.parse_known_args()
    if rest and arguments.run is not _run_module:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        sys.exit(arguments.run(arguments))
    except USER_ERRORS as error:
        print(f"pi0-ttnn: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pi0-ttnn", description="PI0 policies: checkpoints, inference, benches.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    make = commands.add_parser("make-checkpoint", help="write a checkpoint of random weights in the LeRobot layout")
    make.add_argument("--config", choices=CONFIGS, required=True, help="sizes of the model")
    make.add_argument("--out", type=Path, required=True, metavar="DIR")
    make.add_argument("--seed", type=int, default=0)
    make.set_defaults(run=_make_checkpoint)

    infer = commands.add_parser("infer", help="run the bare model on arrays from a file")
    infer.add_argument("--checkpoint", type=Path, required=True, metavar="DIR")
    infer.add_argument("--inputs", type=Path, required=True, metavar="NPZ", help="the arrays of ModelInputs, by name")
    infer.add_argument("--out", type=Path, required=True, metavar="NPY", help="float32 [horizon, action_dim]")
    infer.add_argument("--backend", choices=BACKENDS, default="torch")
    infer.add_argument("--dtype", choices=DTYPES, default="float32", help="of weights and activations, torch")
    infer.add_argument(
        "--precision", choices=PRECISIONS, default="default", help="preset of dtypes and fidelities, ttnn"
    )
    infer.add_argument("--steps", type=positive, metavar="N", help="Euler steps; default: the checkpoint's")
    infer.set_defaults(run=_infer)

    look = commands.add_parser("inspect", help="say what a checkpoint is, what is done with it, and if a robot fits")
    look.add_argument("checkpoint", type=Path, metavar="DIR")
    look.add_argument("--robot", type=Path, metavar="YAML", help="the robot's parameter file")
    look.set_defaults(run=_inspect)

    graph = commands.add_parser(
        "graph", help="count what one inference does on a Wormhole, and model its time; needs no card"
    )
    graph.add_argument("--config", choices=CONFIGS, default="pi0", help="sizes of the model (default pi0)")
    graph.add_argument("--precision", choices=PRECISIONS, default="default", help="preset of dtypes and fidelities")
    graph.add_argument("--guided", action="store_true", help="of an inference for the strategy rtc")
    graph.add_argument("--grid", choices=HARVESTED_ROWS, default="8x8", help="compute cores of the card (default 8x8)")
    graph.add_argument("--json", action="store_true", help="print numbers instead of a page of Markdown")
    graph.add_argument("--out", type=Path, metavar="MD", help="write the page here")
    graph.set_defaults(run=_graph)

    check = commands.add_parser("validate", help="compare every component on the device with the float32 reference")
    check.add_argument("--backend", choices=("ttnn",), default="ttnn")
    which = check.add_mutually_exclusive_group()
    which.add_argument("--config", choices=CONFIGS, default="tiny", help="sizes of the random model (default tiny)")
    which.add_argument("--checkpoint", type=Path, metavar="DIR", help="take this one instead of a random one")
    check.add_argument("--component", action="append", default=[], metavar="NAME", help="only this; may be repeated")
    check.add_argument("--precision", choices=PRECISIONS, default="default", help="preset of dtypes and fidelities")
    check.add_argument("--json", action="store_true", help="print JSON instead of a table")
    check.set_defaults(run=_validate)

    _add_module(commands, "replay", "pi0_ttnn_ros.replay_command", "run recorded bags through the policy", "rosbags")
    _add_module(commands, "bag-info", "pi0_ttnn_ros.bag_info", "say whether a recorded bag fits a robot", "rosbags")

    bench = commands.add_parser("bench", help="measure")
    benches = bench.add_subparsers(required=True, metavar="WHAT")
    _add_module(benches, "node", "pi0_ttnn_ros.bench_node", "overhead of the ROS 2 node, from image to trajectory")
    decoding = "how much faster than real time a bag is read and decoded"
    _add_module(benches, "replay-decoding", "pi0_ttnn_ros.bench_replay", decoding, "rosbags")
    model = benches.add_parser("model", help="time and memory of one inference on the torch backend, beside a peer's")
    model.add_argument("--config", choices=CONFIGS, default="pi0", help="sizes of the random model (default pi0)")
    model.add_argument("--checkpoint", type=Path, metavar="DIR", help="take this one instead of a random one")
    model.add_argument("--cameras", type=int, choices=(1, 2, 3), default=1, help="the other slots are empty")
    model.add_argument("--dtype", choices=DTYPES, default="float32")
    model.add_argument("--repeats", type=positive, default=2, metavar="N")
    model.add_argument("--peer", choices=("lerobot",), default="", help="measure it too, with the same weights")
    model.set_defaults(run=_bench_model)
    return parser


def _add_module(commands: Any, name: str, module: str, summary: str, needs: str = "") -> None:
    """Add a command of the other package, which this one does not know: a process of its own parses the options.

    needs: package of the extra `replay` that it cannot do without
    """
    command = commands.add_parser(name, help=summary, add_help=False)
    command.set_defaults(run=_run_module, module=module, needs=needs)


def _make_checkpoint(arguments: argparse.Namespace) -> int:
    make_checkpoint(arguments.config, arguments.out, arguments.seed)
    print(f"wrote a random {arguments.config} checkpoint to {arguments.out}")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    report, can_run = inspect(arguments.checkpoint, robot_from_yaml(arguments.robot) if arguments.robot else None)
    print(report)
    return 0 if can_run else 1


def _infer(arguments: argparse.Namespace) -> int:
    checkpoint = open_checkpoint(arguments.checkpoint)
    inputs, has_batch = model_inputs(_read_arrays(arguments.inputs), checkpoint.config)
    num_steps = arguments.steps or checkpoint.config.num_steps
    backend = load_backend(arguments.backend, checkpoint, arguments.dtype, arguments.precision, num_steps)
    actions = backend.sample_actions(inputs, num_steps)
    backend.close()
    with arguments.out.open("wb") as file:
        np.save(file, actions if has_batch else actions[0])
    return 0


def _validate(arguments: argparse.Namespace) -> int:
    validation = Validation(arguments.config, arguments.checkpoint, arguments.component, arguments.precision)
    return 0 if validate(validation, arguments.json) else 1


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is no .npz file of arrays ({error})") from error


def _graph(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder, _log_to_stderr():
        select_mock_wormhole(arguments.grid, Path(folder))
        try:
            from pi0_ttnn_core.graph_capture import capture_inference
        except ImportError as error:
            raise BackendError(f"graph needs the package ttnn ({error}): pip install 'pi0_ttnn_ros[ttnn]'") from error
        captured = capture_inference(CONFIGS[arguments.config], arguments.precision, arguments.guided)
    graph = read_graph(captured.nodes)
    total = cost(graph, captured.resident, captured.l1)
    command = f"pi0-ttnn graph --config {arguments.config} --precision {arguments.precision} --grid {arguments.grid}"
    command += " --guided" if arguments.guided else ""
    if arguments.out:
        arguments.out.write_text(page(command, graph, total), encoding="utf-8")
    if arguments.json:
        print(json.dumps(asdict(total), indent=2))
    elif not arguments.out:
        print(page(command, graph, total))
    return 0


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Send to stderr what libraries write to stdout, which is for the result."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def _bench_model(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            checkpoint = Path(folder)
            make_checkpoint(arguments.config, checkpoint, seed=0)
        bench_model(checkpoint, arguments.cameras, arguments.dtype, arguments.repeats, arguments.peer)
    return 0


def _run_module(arguments: argparse.Namespace) -> int:
    if arguments.needs and importlib.util.find_spec(arguments.needs) is None:
        raise BackendError(f"this needs the package {arguments.needs}: pip install 'pi0_ttnn_ros[replay]'")
    return subprocess.run([sys.executable, "-m", arguments.module, *arguments.rest], check=False).returncode


if __name__ == "__main__":
    main()
