"""What several commands share: their help, arguments, and the check for optional packages."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from pi0_ttnn_core.backend import DTYPES, BackendError
from pi0_ttnn_core.configs import CONFIGS
from pi0_ttnn_core.precision import PRECISIONS

FROM_FILE = "the parameter file's"


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a sub-command whose help has examples; the first line of the description is its entry in the list."""
    return commands.add_parser(
        name,
        help=description.splitlines()[0],
        description=description,
        epilog=f"examples:{examples.rstrip()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> int:
    """Return an integer of at least 1; argparse reports what it raises for anything else."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def add_robot(parser: argparse.ArgumentParser, default: str | None = None, required: bool = False) -> None:
    """Add `--robot`; `robot_file` turns its value into a path."""
    text = "robot: name of a set-up in config/, or a parameter file" + (f" (default {default})" if default else "")
    parser.add_argument("--robot", metavar="NAME|YAML", default=default, required=required, help=text)


def add_model(parser: argparse.ArgumentParser, default: str) -> None:
    """Add `--config` and `--checkpoint`: a model with random weights, or a checkpoint's."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--config", choices=CONFIGS, default=default, help=f"model sizes, with random weights (default {default})"
    )
    which.add_argument("--checkpoint", type=Path, metavar="DIR", help="checkpoint to use instead of random weights")


def add_dtype(parser: argparse.ArgumentParser, default: str | None = "float32") -> None:
    """Add `--dtype`, for the torch backend; with `default` None it is the parameter file's."""
    text = f"weights and activations on the torch backend (default {default or FROM_FILE})"
    parser.add_argument("--dtype", choices=DTYPES, default=default, help=text)


def add_precision(parser: argparse.ArgumentParser, default: str | None = "default") -> None:
    """Add `--precision`, for the ttnn backend; with `default` None it is the parameter file's."""
    text = f"preset of dtypes and math fidelities on the ttnn backend (default {default or FROM_FILE})"
    parser.add_argument("--precision", choices=PRECISIONS, default=default, help=text)


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Add `--verify`; `forget_digests` does it."""
    text = "read and check all weights again, also those that have not changed since they were last checked"
    parser.add_argument("--verify", action="store_true", help=text)


def require(package: str, extra: str) -> None:
    """Check that an optional package is installed.

    Raises:
        BackendError: it is not installed; the text names the extra that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise BackendError(f"this needs the package {package}: pip install 'pi0_ttnn_ros[{extra}]'")
