"""The policy node for long: memory of its two processes, every command checked. Run by scripts/soak.

Ends with one line, and with status 1 when after the first fifth of the time the memory rose by more than RISE, a
command broke a limit, the policy was lost, the status told an error, or too few chunks came; where real-time priority
is permitted also when a moving robot was told nothing for as long as a plan covers. That chunks were too late is the
machine's fault, not the node's, which then lets the robot hold: they are counted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from lifecycle_msgs.msg import Transition
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint
from pi0_ttnn_ros.execution.chunk_executor import PLAN_AHEAD_NS
from support.fake_robot import (
    FakeRobot,
    assert_no_old_chunks,
    assert_within_limits,
    good_parameters,
    is_hold,
    ros_arguments,
)
from support.processes import Process, resident_memory

NAMESPACE = "/soak"
RISE = 4.0  # MiB, by the straight line that fits best
LONG_GAP = 0.04  # seconds, of commands at 50 Hz
BATCH = 10.0  # seconds between two checks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--inference-rate", type=float, default=20.0, help="upper bound, Hz")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: ended by a signal"))
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "tiny"
        make_checkpoint("tiny", checkpoint, seed=0)
        parameters = good_parameters(checkpoint) | {"inference_rate": arguments.inference_rate}
        node = Process("node.policy_node", Path(folder) / "log", *ros_arguments(parameters), namespace=NAMESPACE)
        robot = FakeRobot(NAMESPACE)
        try:
            robot.spin_until(lambda: robot.statuses, label="the node's first status")
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                if not robot.change_state(transition):
                    sys.exit(f"soak: {robot.status.last_error}")
            seen = watch(robot, node, 60.0 * arguments.minutes)
            priority = os.sched_getscheduler(node.process.pid) == os.SCHED_FIFO
            restarts = robot.status.restarts
        finally:
            node.kill()
    sizes = np.array(seen.sizes)[len(seen.sizes) // 5 :]
    rise = np.polyfit(np.arange(len(sizes)), sizes, 1)[0] * (len(sizes) - 1)
    gaps = np.diff([sent for sent, _ in seen.sent])[[moving for _, moving in seen.sent[:-1]]]
    print(
        f"soak: {arguments.minutes:g} min, {seen.chunks} chunks, {len(seen.sent)} commands within the limits, "
        f"the longest gap in a motion {gaps.max() * 1e3:.1f} ms, {np.count_nonzero(gaps > LONG_GAP)} above "
        f"{LONG_GAP * 1e3:g} ms ({'with' if priority else 'without'} real-time priority), policy restarted "
        f"{restarts} times, {seen.late} statuses of late chunks, other errors {sorted(seen.errors) or 'none'}, "
        f"memory of node and policy at the end "
        f"{sizes[-1].round(1).tolist()} MiB, rise {rise.round(2).tolist()} MiB"
    )
    late = priority and gaps.max() > PLAN_AHEAD_NS * 1e-9
    if rise.max() > RISE or restarts or seen.errors or late or seen.chunks < 30 * arguments.minutes:
        sys.exit(1)


@dataclass
class Seen:
    """What was seen over time.

    sizes: memory of node and policy at each check, MiB
    sent: when each command was sent, seconds, and whether the robot moves in it
    late: statuses that told of a chunk that came too late
    """

    sizes: list[tuple[float, float]] = field(default_factory=list)
    sent: list[tuple[float, bool]] = field(default_factory=list)
    late: int = 0
    errors: set[str] = field(default_factory=set)
    chunks: int = 0


def watch(robot: FakeRobot, node: Process, seconds: float) -> Seen:
    """Spin for `seconds` and check what comes."""
    seen = Seen()

    def on_command(command: JointTrajectory, about: dict[str, int]) -> None:
        seen.sent.append((about["source_timestamp"] * 1e-9, not is_hold(command)))

    topic = "joint_trajectory_controller/joint_trajectory"
    robot.node.create_subscription(JointTrajectory, topic, on_command, 1000)  # type: ignore[arg-type]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        robot.listener.spin_for(BATCH)
        assert_within_limits(robot.trajectories)
        assert_no_old_chunks(robot)
        seen.chunks += len(robot.chunks) - 1
        errors = [status.last_error for status in robot.statuses[1:] if status.last_error]
        late = [error for error in errors if "old when it was ready" in error]
        seen.late += len(late)
        seen.errors |= set(errors) - set(late)
        # What is next goes on from the last ones.
        del robot.trajectories[:-1], robot.chunks[:-1], robot.statuses[:-1], robot.diagnostics[:]
        (policy,) = node.children()
        seen.sizes.append((resident_memory(node.process.pid), resident_memory(policy)))
    return seen


if __name__ == "__main__":
    main()
