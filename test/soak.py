"""The policy node for long: memory of its two processes, every command checked. Run by scripts/soak.

Ends with one line and status 1 when memory grew by more than GROWTH after the first fifth of the time, a command broke
a limit, the policy was lost, or too few chunks came.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from lifecycle_msgs.msg import Transition

from pi0_ttnn_core.random_checkpoint import make_checkpoint
from played_robot import Robot, assert_no_old_chunks, assert_within_limits, good_parameters, ros_arguments
from ros_helpers import Process

NAMESPACE = "/soak"
GROWTH = 20.0  # MiB
BATCH = 10.0  # seconds between two checks


def memory(pid: int) -> float:
    """Return the resident memory of a process, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes = parser.parse_args().minutes
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "tiny"
        make_checkpoint("tiny", checkpoint, seed=0)
        arguments = ros_arguments(good_parameters(checkpoint))
        node = Process("policy_node", Path(folder) / "log", *arguments, namespace=NAMESPACE)
        robot = Robot(NAMESPACE)
        try:
            robot.spin_until(lambda: robot.statuses, what="the node's first status")
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                if not robot.change_state(transition):
                    sys.exit(f"soak: {robot.status.last_error}")
            sizes, commands, chunks = watch(robot, node, 60.0 * minutes)
            status = robot.status
        finally:
            node.kill()
    start = sizes[len(sizes) // 5]
    growth = sizes[len(sizes) // 5 :].max(axis=0) - start
    print(
        f"soak: {minutes:g} min, {chunks} chunks, {commands} commands within the limits, policy opened again "
        f"{status.reopened} times, memory of node and policy {start.round(1).tolist()} MiB, "
        f"grown by at most {growth.round(1).tolist()} MiB"
    )
    if growth.max() > GROWTH or status.reopened or chunks < minutes * 30:
        sys.exit(1)


def watch(robot: Robot, node: Process, seconds: float) -> tuple[np.ndarray, int, int]:
    """Spin for `seconds`; return the memory of node and policy over time [checks, 2], commands and chunks."""
    sizes, commands, chunks = [], 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        due = time.monotonic() + BATCH
        robot.spin_until(lambda due=due: time.monotonic() >= due, timeout=2 * BATCH)
        assert_within_limits(robot.trajectories)
        assert_no_old_chunks(robot)
        commands, chunks = commands + len(robot.trajectories), chunks + len(robot.chunks)
        # What is next goes on from the last ones.
        del robot.trajectories[:-1], robot.chunks[:-1], robot.statuses[:-1], robot.diagnostics[:]
        (policy,) = node.children()
        sizes.append((memory(node.process.pid), memory(policy)))
    return np.array(sizes), commands, chunks


if __name__ == "__main__":
    main()
