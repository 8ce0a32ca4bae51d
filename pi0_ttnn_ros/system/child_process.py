"""What a child process does so as not to outlive the process that started it."""

from __future__ import annotations

import ctypes
import select
import signal

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends, even if that is killed itself."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def has_hung_up(descriptor: int) -> bool:
    """Return whether the other end of a socket is closed, even if there are still data to read."""
    poll = select.poll()
    poll.register(descriptor, 0)  # a hang-up is always reported
    return bool(poll.poll(0))
