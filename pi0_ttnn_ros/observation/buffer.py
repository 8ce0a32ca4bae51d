"""The newest message of every input, and whether together they make an observation."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pi0_ttnn_ros.observation.images import SerializedImage

JOINT_STATES = "joint_states"
INSTRUCTION = "instruction"
HEARTBEAT = "heartbeat"

# Longer than any delay of a live robot: the clocks differ, or a bag is replayed.
CLOCK_MISMATCH_S = 60.0


@dataclass(frozen=True)
class Snapshot:
    """One complete set of inputs. `decoding.observation_from_snapshot` decodes it.

    Attributes:
        images: image by camera.
        joint_states: message.
        instruction: what the robot is to do.
        stamp_ns: stamp of the joint states.
    """

    images: Mapping[str, SerializedImage]
    joint_states: Any
    instruction: str
    stamp_ns: int


def is_due(stamp_ns: int, last_stamp_ns: int | None, max_rate: float) -> bool:
    """Return whether to infer from joint states of `stamp_ns` after those of `last_stamp_ns`; `max_rate` in Hz."""
    # The difference in either direction: the clock may have jumped back.
    return last_stamp_ns is None or abs(stamp_ns - last_stamp_ns) * max_rate >= 1e9


class ObservationBuffer:
    """Holds the newest message of each camera and of the joint states, and the instruction. Thread-safe."""

    def __init__(self, timeouts: Mapping[str, float], instruction: str, sync_tolerance: float, now_ns: int) -> None:
        """Start empty but for the instruction.

        Args:
            timeouts: seconds after which an input is stale, for each camera by name, for JOINT_STATES and optionally
                for INSTRUCTION and HEARTBEAT; a heartbeat without a timeout is not needed.
            instruction: received at `now_ns`; may be empty until another one is put.
            sync_tolerance: largest distance between the stamps of cameras and joint states in a snapshot, seconds.
            now_ns: the time.
        """
        self.set_timeouts(timeouts, sync_tolerance)
        self._newest: dict[str, tuple[int, Any]] = {INSTRUCTION: (now_ns, instruction)}
        self._content: dict[str, tuple[int, bytes]] = {}
        self._last_synchronous_ns = now_ns
        self._changed = threading.Condition()

    def set_timeouts(self, timeouts: Mapping[str, float], sync_tolerance: float) -> None:
        """Change the timeouts and the tolerance, see `__init__`; the inputs stay the same."""
        self._timeouts = dict(timeouts)
        self._sensors = [name for name in timeouts if name not in (INSTRUCTION, HEARTBEAT)]
        self._sync_tolerance = sync_tolerance

    def put(self, name: str, stamp_ns: int, message: Any, content: bytes = b"") -> None:
        """Keep the newest message of the input `name`, and its stamp.

        Args:
            name: the input.
            stamp_ns: its stamp.
            message: the message.
            content: what differs between two messages of a sensor that works, without the stamp; see `same_since`.
        """
        with self._changed:
            since_ns, before = self._content.get(name, (0, b""))
            if not content or content != before or stamp_ns < since_ns:
                self._content[name] = (stamp_ns, content)
            self._newest[name] = (stamp_ns, message)
            self._changed.notify_all()

    @property
    def joint_states_stamp_ns(self) -> int:
        """Stamp of the newest joint states; 0 before the first."""
        return self._newest.get(JOINT_STATES, (0, None))[0]

    def same_since(self) -> dict[str, int]:
        """Return for each sensor, by name, the stamp of the first message since which its content is the same."""
        with self._changed:
            return {name: self._content[name][0] for name in self._sensors if name in self._content}

    @property
    def instruction(self) -> str:
        """The newest instruction."""
        return self._newest[INSTRUCTION][1]

    @property
    def joint_states(self) -> Any:
        """The newest joint states; None before the first."""
        return self._newest.get(JOINT_STATES, (0, None))[1]

    def wait(self, timeout: float) -> None:
        """Wait for the next input, at most `timeout` seconds."""
        with self._changed:
            self._changed.wait(timeout)

    def snapshot(self, now_ns: int) -> Snapshot | None:
        """Return the inputs at `now_ns`; None while one is stale or their stamps are too far apart."""
        with self._changed:
            if self._stale(now_ns) or self._sync_skew() > self._sync_tolerance:
                return None
            self._last_synchronous_ns = now_ns
            images = {name: self._newest[name][1] for name in self._sensors if name != JOINT_STATES}
            stamp_ns, joint_states = self._newest[JOINT_STATES]
            return Snapshot(images, joint_states, self.instruction, stamp_ns)

    def sync_skew(self) -> float:
        """Return the distance between the stamps of the newest images and joint states, seconds."""
        with self._changed:
            return self._sync_skew()

    def stale_inputs(self, now_ns: int) -> dict[str, str]:
        """Return why inputs cannot be used at `now_ns`, by their names; empty if all are fresh."""
        with self._changed:
            return self._stale(now_ns)

    def states(self, now_ns: int) -> dict[str, str]:
        """Return for each input, by its name, why it cannot be used at `now_ns`; "" if it can.

        One of the names is "synchronisation": it cannot be used when the stamps have been too far apart for longer
        than a timeout.
        """
        with self._changed:
            states = dict.fromkeys([*self._timeouts, INSTRUCTION], "") | self._stale(now_ns)
            return states | {"synchronisation": self._sync_problem(now_ns) if not any(states.values()) else ""}

    def _sync_problem(self, now_ns: int) -> str:
        longest = max(self._timeouts[name] for name in self._sensors)
        skew = self._sync_skew()
        if skew <= self._sync_tolerance or 0 <= now_ns - self._last_synchronous_ns <= longest * 1e9:
            return ""
        oldest = min(self._sensors, key=lambda name: self._newest[name][0])
        return (
            f"{oldest} is {skew:.3f} s behind the newest input, sync_tolerance is {self._sync_tolerance:g} s: "
            f"correct its stamps or raise the tolerance"
        )

    def _sync_skew(self) -> float:
        stamps = [self._newest[name][0] for name in self._sensors if name in self._newest]
        return (max(stamps) - min(stamps)) * 1e-9 if stamps else 0.0

    def _stale(self, now_ns: int) -> dict[str, str]:
        reasons = {name: self._reason(name, timeout, now_ns) for name, timeout in self._timeouts.items()}
        if not self.instruction.strip():
            reasons[INSTRUCTION] = "none given yet"
        return {name: reason for name, reason in reasons.items() if reason}

    def _reason(self, name: str, timeout: float, now_ns: int) -> str:
        if name not in self._newest:
            return "nothing received"
        age = (now_ns - self._newest[name][0]) * 1e-9
        if abs(age) > CLOCK_MISMATCH_S and name in self._sensors:
            return f"its stamp is {age:.0f} s off the node's clock: set use_sim_time for a replayed bag or a simulator"
        if age < -timeout:
            return f"its stamp is {-age:.2f} s in the future: the clock jumped back, or the sender's clock is ahead"
        if age > timeout:
            clock = "" if name in self._sensors else " by its sender's clock"
            return f"{age:.2f} s old{clock}, the timeout is {timeout:g} s"
        return ""
