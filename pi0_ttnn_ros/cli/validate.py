"""Compare every component on the Wormhole with the float32 reference.

Exit status: 0 all components pass, 1 one does not, 2 an error.
"""

from __future__ import annotations

import argparse

from pi0_ttnn_ros.cli.arguments import add_model, add_precision

EXAMPLES = """
  pi0-ttnn validate
  pi0-ttnn validate --config pi0 --component prefix_block --component expert_block
  pi0-ttnn validate --checkpoint checkpoint --precision accuracy --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser, default="tiny")
    parser.add_argument(
        "--component", action="append", default=[], metavar="NAME", help="validate only this component; may be repeated"
    )
    add_precision(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison; return 1 if a component does not pass."""
    from pi0_ttnn_core.validation.runner import Validation, validate

    validation = Validation(arguments.config, arguments.checkpoint, arguments.component, arguments.precision)
    return 0 if validate(validation, arguments.json) else 1
