"""Thread priorities: SCHED_FIFO for the node and its command loop, niceness for the policy process."""

from __future__ import annotations

import contextlib
import os
from enum import IntEnum

# Niceness of the policy process: it yields to the node and to whatever else runs on the robot.
POLICY_NICENESS = 5


class Priority(IntEnum):
    """Real-time priorities of the node's threads; ros2_control's controller manager takes 50.

    All threads of the node have one: a preempted thread that holds Python's lock would keep the command loop waiting.
    """

    NODE = 10
    COMMANDS = 20


def use_realtime_priority(priority: int) -> None:
    """Give the calling thread and the threads that it starts a real-time priority (SCHED_FIFO), if permitted."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def has_realtime_priority() -> bool:
    """Return whether the calling thread has a real-time priority."""
    return os.sched_getscheduler(0) != os.SCHED_OTHER


def lower_priority() -> None:
    """Drop the inherited real-time priority of the calling thread and the threads that it starts, and be nice."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), POLICY_NICENESS))


# By default Torch's threads wait for each other in a busy loop. Where cores are scarce they then hang for seconds, and
# take from the node what it needs to keep the robot moving.
OPENMP_PASSIVE_WAIT = {"OMP_WAIT_POLICY": "PASSIVE"}
