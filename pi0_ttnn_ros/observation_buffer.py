"""The newest message of every input, and whether together they make an observation. Knows nothing of ROS."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

JOINT_STATES = "joint_states"
INSTRUCTION = "instruction"

# Older than any delay of a live robot: the clocks differ, or a bag is replayed.
FOREIGN_CLOCK = 60.0


@dataclass(frozen=True)
class Snapshot:
    """One complete set of inputs, as they came: decoding is left to whoever uses it.

    stamp: that of the joint states, nanoseconds.
    """

    images: dict[str, Any]
    joint_states: Any
    instruction: str
    stamp: int


class ObservationBuffer:
    """Holds the newest message of each camera and of the joint states, and the instruction. Thread-safe."""

    def __init__(self, timeouts: Mapping[str, float], instruction: str) -> None:
        """Take the timeout of each input in seconds: every camera's by name, and that of JOINT_STATES."""
        self._timeouts = dict(timeouts)
        self._newest: dict[str, tuple[int, Any]] = {}
        self._instruction = instruction
        self._changed = threading.Condition()

    def put(self, name: str, stamp: int, message: Any) -> None:
        """Keep the newest message of the input `name`; `stamp` is its own, in nanoseconds."""
        with self._changed:
            self._newest[name] = (stamp, message)
            self._changed.notify_all()

    def set_instruction(self, instruction: str) -> None:
        with self._changed:
            self._instruction = instruction
            self._changed.notify_all()

    @property
    def instruction(self) -> str:
        return self._instruction

    def wait(self, timeout: float) -> None:
        """Return when an input came in, at the latest after `timeout` seconds."""
        with self._changed:
            self._changed.wait(timeout)

    def snapshot(self, now: int) -> Snapshot | None:
        """Return the inputs at `now` (nanoseconds), or None while `stale_inputs` names one."""
        with self._changed:
            if self._stale(now):
                return None
            images = {name: message for name, (_, message) in self._newest.items() if name != JOINT_STATES}
            stamp, joint_states = self._newest[JOINT_STATES]
            return Snapshot(images, joint_states, self._instruction, stamp)

    def stale_inputs(self, now: int) -> dict[str, str]:
        """Return why an input cannot be used at `now` (nanoseconds), by its name; empty when all is fresh."""
        with self._changed:
            return self._stale(now)

    def _stale(self, now: int) -> dict[str, str]:
        reasons = {name: self._reason(name, timeout, now) for name, timeout in self._timeouts.items()}
        if not self._instruction.strip():
            reasons[INSTRUCTION] = "none given yet"
        return {name: reason for name, reason in reasons.items() if reason}

    def _reason(self, name: str, timeout: float, now: int) -> str:
        if name not in self._newest:
            return "nothing received"
        age = (now - self._newest[name][0]) * 1e-9
        if abs(age) > FOREIGN_CLOCK:
            return f"its stamp is {age:.0f} s off the node's clock: for a replayed bag or a simulator set use_sim_time"
        if abs(age) > timeout:
            return f"{age:.2f} s old, allowed are {timeout:g} s"
        return ""
