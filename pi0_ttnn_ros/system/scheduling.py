"""Who goes first where processors are scarce: the commands, then the rest of the node, the policy last."""

from __future__ import annotations

import contextlib
import os
from enum import IntEnum

# Of the policy's process: beside the node, and beside whatever else runs on the robot.
POLICY_NICENESS = 5


class Priority(IntEnum):
    """Real-time priorities of the node's threads.

    All of them have one: a thread that waits for its turn while it has Python's lock would keep the commands waiting.
    ros2_control's controller manager takes 50.
    """

    NODE = 10
    COMMANDS = 20


def use_realtime_priority(priority: int) -> None:
    """Give the calling thread, and those that it starts, a real-time priority (SCHED_FIFO), where that is permitted."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def has_realtime_priority() -> bool:
    """Return whether the calling thread has a real-time priority."""
    return os.sched_getscheduler(0) != os.SCHED_OTHER


def lower_priority() -> None:
    """Take from the calling thread, and those that it starts, what it inherited, and let others go before it."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), POLICY_NICENESS))


# Torch's threads wait for each other in a loop by default. Where cores are scarce they hang for seconds then, and take
# from the node what it needs to keep the robot moving.
OPENMP_PASSIVE_WAIT = {"OMP_WAIT_POLICY": "PASSIVE"}
