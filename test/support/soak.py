"""Run the policy node for a long time: check its memory and every command. Run by scripts/soak.

Prints one line at the end. Exits with status 1 if after the first fifth of the time the memory rose by more than RISE,
a command exceeded a limit, the policy process was restarted, a status reported an error, or there were too few chunks;
with real-time priority also if a moving robot received no command for as long as a plan covers. Chunks that are too
late are up to the machine, and the robot then holds: they are only counted.
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
    error_of,
    good_parameters,
    is_hold,
    ros_arguments,
)
from support.processes import Process, resident_memory

NAMESPACE = "/soak"
RISE = 4.0  # MiB, of a straight line fitted to the memory
LONG_GAP = 0.04  # seconds, of commands at 50 Hz
BATCH = 10.0  # seconds between two checks


def main() -> None:
    """Run the node for `--minutes`."""
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

    Attributes:
        sizes: memory of node and policy process at each check, MiB.
        sent: for each command, when it was sent, in seconds, and whether it moves the robot.
        late: number of statuses that reported a chunk that was too late.
        errors: other errors of statuses.
        chunks: number of chunks.
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
        errors = [status for status in robot.statuses[1:] if status.last_error]
        seen.late += sum(not error_of(status) for status in errors)
        seen.errors |= {error_of(status) for status in errors} - {""}
        # The next check continues from the last messages.
        del robot.trajectories[:-1], robot.chunks[:-1], robot.statuses[:-1], robot.diagnostics[:]
        (policy,) = node.children()
        seen.sizes.append((resident_memory(node.process.pid), resident_memory(policy)))
    return seen


if __name__ == "__main__":
    main()
