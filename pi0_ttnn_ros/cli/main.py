"""The command `pi0-ttnn`: one module of this room per sub-command.

A command's module has a docstring, which is its description, EXAMPLES, `add_arguments(parser)`, and `run(arguments)`,
which returns the exit status and does the slow imports.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pi0_ttnn_core.backend import BackendError
from pi0_ttnn_core.checkpoints.files import CheckpointError
from pi0_ttnn_core.model_inputs import InputError
from pi0_ttnn_core.processing.robot import RobotError
from pi0_ttnn_core.processing.tokenizer import TokenizerError
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.cli import bag_info, bench, doctor, graph, infer, inspect, make_checkpoint, replay, validate
from pi0_ttnn_ros.cli.arguments import add_command
from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.replay.predictions import ReplayError
from pi0_ttnn_ros.system.package_files import package_version

COMMANDS = {
    "doctor": doctor,
    "make-checkpoint": make_checkpoint,
    "inspect": inspect,
    "infer": infer,
    "bag-info": bag_info,
    "replay": replay,
    "validate": validate,
    "graph": graph,
    "bench": bench,
}
USER_ERRORS = (
    BackendError,
    BagError,
    CheckpointError,
    InputError,
    OSError,
    ParameterError,
    ReplayError,
    RobotError,
    TokenizerError,
)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 2 for an error, which is reported in one line; 130 for Ctrl-C."""
    words = sys.argv[1:] if words is None else words
    arguments = build_parser().parse_args(words)
    arguments.words = ["pi0-ttnn", *words]
    try:
        status: int = arguments.run(arguments)
        return status
    except USER_ERRORS as error:
        print(f"pi0-ttnn {words[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="pi0-ttnn",
        description="PI0 policies: checkpoints, inference, replay, benches.",
        epilog="pi0-ttnn COMMAND --help shows examples of a command.",
    )
    parser.add_argument("--version", action="version", version=f"pi0-ttnn {package_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = add_command(commands, name, (module.__doc__ or "").strip(), module.EXAMPLES)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
