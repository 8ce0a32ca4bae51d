"""Reset a device that a restart of the policy process does not bring back."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time

TIMEOUT_S = 60.0  # for a reset and for the card to be back
POLL_S = 0.05


class ResetError(RuntimeError):
    """The device was not reset; the message says why."""


def reset_device(command: str, closing: threading.Event) -> None:
    """Run the command that resets the device, and wait until it has ended; give up when `closing` is set.

    Raises:
        ResetError: the command cannot be run, failed, or took too long.
    """
    failed = f"the device was not reset: {command!r}"
    try:
        process = subprocess.Popen(shlex.split(command), stdin=subprocess.DEVNULL)
    except (OSError, ValueError, IndexError) as error:
        raise ResetError(f"{failed} cannot be run ({error})") from error
    deadline = time.monotonic() + TIMEOUT_S
    while process.poll() is None:
        if closing.wait(POLL_S) or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise ResetError(f"{failed} was ended after at most {TIMEOUT_S:g} s")
    if process.returncode:
        raise ResetError(f"{failed} ended with status {process.returncode}")
