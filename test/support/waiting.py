"""Waiting for a condition, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMEOUT = 180.0  # seconds; only what hangs takes so long


def wait_until(condition: Callable[[], object], label: str) -> None:
    """Wait until `condition` holds; the test fails when it never does."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"no {label} after {TIMEOUT:g} s"
        time.sleep(0.01)
