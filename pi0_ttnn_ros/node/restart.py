"""Whether a motion may resume by itself after a hold, or needs ~/reset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pi0_ttnn_ros.observation.buffer import INSTRUCTION

# A gap of the inputs that is shorter than this is an ordinary one, seconds.
ORDINARY_GAP_S = 1.0


class RestartGuard:
    """With `manual`, a motion needs `reset` after any hold but an ordinary gap of the inputs.

    Attributes:
        reason: what the motion was held for, until `reset`; empty if it may resume.
    """

    def __init__(self, manual: bool) -> None:
        self.reason = ""
        self._manual = manual
        self._moved = False
        self._held_since: float | None = None

    def start(self) -> None:
        """Take note that motion is enabled from now on. All that may keep it from starting has a second to end."""
        self._moved, self._held_since = False, None

    def reset(self) -> None:
        """Let the motion resume."""
        self.reason = ""
        self.start()

    def hold(self, reason: str) -> None:
        """Take a hold that is more than a gap of the inputs."""
        if self._manual and not self.reason:
            self.reason = reason

    def observe(self, stale: Mapping[str, str], faults: Sequence[str], now: float) -> None:
        """Take why the robot may not move at this moment; to be called once a period while motion is enabled.

        Args:
            stale: why inputs cannot be used, by their names.
            faults: all other reasons.
            now: seconds of a clock that never jumps.
        """
        # Until the first motion, the robot waits for an instruction as for a start.
        gaps = [f"{name}: {reason}" for name, reason in stale.items() if name != INSTRUCTION or self._moved]
        if not gaps and not faults:
            self._moved, self._held_since = self._moved or not stale, None
            return
        if self._held_since is None:
            self._held_since = now
        if (faults and self._moved) or now - self._held_since >= ORDINARY_GAP_S:
            self.hold([*faults, *gaps][0])
