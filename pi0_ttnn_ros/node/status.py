"""What the node tells about itself: PolicyStatus and diagnostics."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from pi0_ttnn_ros.msg import PolicyStatus

WINDOW = 100
# In the words of the log and of the diagnostics.
ACTIVITIES = {
    PolicyStatus.IDLE: "idle",
    PolicyStatus.STOPPED: "stopped",
    PolicyStatus.DISABLED: "disabled",
    PolicyStatus.HOLDING: "holding",
    PolicyStatus.MOVING: "moving",
}


@dataclass
class Statistics:
    """Times of the last inferences: when each ended (nanoseconds, node clock) and its latency (seconds)."""

    ended: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def add(self, now_ns: int, latency: float) -> None:
        self.ended.append(now_ns)
        self.latencies.append(latency)

    def rate(self, now_ns: int) -> float:
        """Return inferences per second over the last five seconds."""
        return sum(1 for ended in tuple(self.ended) if 0 <= now_ns - ended < 5 * 10**9) / 5.0

    def percentiles(self) -> tuple[float, float, float]:
        """Return the latency's median, 95th percentile and maximum; zeros where there was no inference."""
        latencies = tuple(self.latencies)
        if not latencies:
            return 0.0, 0.0, 0.0
        p50, p95 = np.percentile(latencies, [50, 95])
        return float(p50), float(p95), max(latencies)


def diagnostics(
    status: PolicyStatus, node_name: str, inputs: dict[str, str], card: dict[str, float]
) -> DiagnosticArray:
    """Return one entry for inference and one for each input (REP 107).

    inputs: why each of them cannot be used, empty where it can
    card: what its sensors say
    """
    active = status.lifecycle_state == "active"
    level, message = DiagnosticStatus.OK, f"{status.lifecycle_state}, {ACTIVITIES[status.activity]}"
    if status.last_error:
        level, message = DiagnosticStatus.ERROR, status.last_error
    elif active and status.stale_inputs:
        level, message = DiagnosticStatus.WARN, "stale inputs: " + ", ".join(status.stale_inputs)
    values = {
        "backend": status.backend,
        "device": status.device,
        "checkpoint": status.checkpoint,
        "instruction": status.instruction,
        "strategy": status.strategy,
        "inference rate (Hz)": f"{status.inference_rate:.1f}",
        "latency p50 (s)": f"{status.latency_p50:.4f}",
        "latency p95 (s)": f"{status.latency_p95:.4f}",
        "latency max (s)": f"{status.latency_max:.4f}",
        "sync skew (s)": f"{status.sync_skew:.4f}",
        "policy restarts": str(status.restarts),
    }
    values |= {name: f"{value:.4g}" for name, value in card.items()}
    array = DiagnosticArray()
    array.header.stamp = status.header.stamp
    array.status = [_entry(f"{node_name}: inference", status.device, level, message, values)]
    stale = DiagnosticStatus.STALE if active else DiagnosticStatus.OK
    array.status += [
        _entry(f"{node_name}: {name}", "", stale if reason else DiagnosticStatus.OK, reason or "fresh", {})
        for name, reason in sorted(inputs.items())
    ]
    return array


def _entry(name: str, hardware_id: str, level: bytes, message: str, values: dict[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(name=name, hardware_id=hardware_id, level=level, message=message, values=pairs)
