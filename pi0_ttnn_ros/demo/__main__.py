"""The demo's command line.

    python -m pi0_ttnn_ros.demo [--seconds 30] [--out demo_output] [--checkpoint DIR] [--backend torch|ttnn]

Needs no launch package of ROS 2, which does not exist as a wheel; launch/demo.launch.py does the same with it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from pi0_ttnn_core.backend import BACKENDS
from pi0_ttnn_core.wormhole import find_wormhole

PACKAGES = ("gym_aloha", "imageio", "imageio_ffmpeg", "matplotlib")


def main() -> None:
    """Run the demo: exit status 0 if the policy moved the robot, 1 if it did not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="A policy drives a simulated robot: robot, policy node and recorder."
    )
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="how long the policy runs, in the robot's time (default 30)"
    )
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for video, pictures and logs")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: random weights of a tiny model")
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="what runs the model (default torch)")
    arguments = parser.parse_args()
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        sys.exit(f"demo: {', '.join(missing)} not installed: pip install 'pi0_ttnn_ros[demo]'")
    wormhole = find_wormhole() if arguments.backend == "ttnn" else None
    if isinstance(wormhole, str):
        sys.exit(f"demo: backend ttnn: {wormhole}")
    try:
        from pi0_ttnn_ros.demo.demo import run_demo

        simulated_card = wormhole is not None and wormhole.simulated
        run_demo(arguments.out, arguments.checkpoint, arguments.backend, arguments.seconds, simulated_card)
    except KeyboardInterrupt:
        print("demo: interrupted", flush=True)
        # All is closed. On a busy machine Python would take seconds to unload torch and matplotlib.
        os._exit(130)


if __name__ == "__main__":
    main()
