"""Notice sensors that repeat themselves with new stamps while the robot moves."""

from __future__ import annotations

from collections.abc import Mapping

from pi0_ttnn_ros.execution.tracking import TrackingMonitor


class FrozenInputs:
    """The sensors that have repeated one message, but for its stamp, through a motion.

    Attributes:
        reasons: in words, by input. A sensor stays here until its messages change, or until `reset`: while the robot
            holds, those of a sensor that works may stay the same as well. Replaced as a whole, for other threads.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self._same_since_ns: dict[str, int] = {}

    def reset(self) -> None:
        """Judge every sensor from its next motion on."""
        self.reasons = {}

    def observe(self, same_since_ns: Mapping[str, int], tracking: TrackingMonitor, timeout: float, now_ns: int) -> None:
        """Judge the sensors at `now_ns`.

        Args:
            same_since_ns: see `ObservationBuffer.same_since`.
            tracking: knows the commanded motion.
            timeout: seconds that a sensor may repeat itself. A motion shows in it within half of that. 0: none is
                judged.
            now_ns: the time.
        """
        timeout_ns = round(timeout * 1e9)
        known = {
            name: reason for name, reason in self.reasons.items() if same_since_ns[name] == self._same_since_ns[name]
        }
        same = {
            name: since_ns
            for name, since_ns in same_since_ns.items()
            if timeout_ns and name not in known and now_ns - since_ns > timeout_ns
        }
        if same and tracking.commanded_motion(now_ns - timeout_ns, now_ns - timeout_ns // 2):
            self._same_since_ns |= same
            known |= {name: _reason(name, (now_ns - since_ns) * 1e-9) for name, since_ns in same.items()}
        self.reasons = known


def _reason(name: str, seconds: float) -> str:
    return (
        f"{name} repeats itself: new stamps, but no change for {seconds:.1f} s although a motion is commanded "
        f"(repeated_input_timeout)"
    )
