"""Count the operations of one inference on a Wormhole, and model its time, without a card."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from pi0_ttnn_core.configs import CONFIGS
from pi0_ttnn_core.ttnn_output import ttnn_output_logged
from pi0_ttnn_core.wormhole import HARVESTED_ROWS, select_mock_wormhole
from pi0_ttnn_ros.cli.arguments import add_precision, require

EXAMPLES = """
  pi0-ttnn graph
  pi0-ttnn graph --config pi05 --grid 8x7 --json
  pi0-ttnn graph --config pi0 --guided --out graph.md
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--config", choices=CONFIGS, default="pi0", help="model sizes (default pi0)")
    add_precision(parser)
    parser.add_argument("--guided", action="store_true", help="with the guidance of the strategy rtc")
    parser.add_argument("--grid", choices=HARVESTED_ROWS, default="8x8", help="compute cores of the card (default 8x8)")
    parser.add_argument("--json", action="store_true", help="print numbers instead of a page of Markdown")
    parser.add_argument("--out", type=Path, metavar="MD", help="file for the page")


def run(arguments: argparse.Namespace) -> int:
    """Capture one inference on a mock card and print what it costs."""
    require("ttnn", "ttnn")
    activity = "capturing one inference (compiling its kernels takes minutes the first time)"
    with tempfile.TemporaryDirectory() as folder, ttnn_output_logged(activity):
        select_mock_wormhole(arguments.grid, Path(folder))
        from pi0_ttnn_core.profiling.capture import capture_inference

        captured = capture_inference(CONFIGS[arguments.config], arguments.precision, arguments.guided)
    from pi0_ttnn_core.profiling.graph import read_graph
    from pi0_ttnn_core.profiling.report import cost, page

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
