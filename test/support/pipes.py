"""Pipes that nobody reads, and what comes out of them."""

from __future__ import annotations

import os
import select

from support.waiting import TIMEOUT


def fill(writer: int) -> None:
    """Write to a pipe until it takes no more."""
    # By a file description of its own: that of its other users must stay blocking.
    descriptor = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(descriptor, b"x\n" * 1000)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def read_until(reader: int, text: bytes) -> bytes:
    """Read from a pipe until `text` has arrived and return all that was read; the test fails when it never does."""
    received = b""
    while text not in received:
        assert select.select([reader], [], [], TIMEOUT)[0], f"no {text!r} after {TIMEOUT:g} s: {received[-2000:]!r}"
        received += os.read(reader, 1 << 16)
    return received
