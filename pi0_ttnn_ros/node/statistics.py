"""Rate and latency of the last inferences."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

WINDOW = 100  # inferences
RATE_WINDOW_S = 5.0


@dataclass
class Statistics:
    """Rate and latency of the last inferences.

    Attributes:
        ends_ns: when each ended, on the node's clock.
        latencies: s, of each.
    """

    ends_ns: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def add(self, now_ns: int, latency: float) -> None:
        """Add an inference that ended now."""
        self.ends_ns.append(now_ns)
        self.latencies.append(latency)

    def rate(self, now_ns: int) -> float:
        """Return the inferences per second over the last five seconds."""
        return sum(1 for end_ns in tuple(self.ends_ns) if 0 <= now_ns - end_ns < RATE_WINDOW_S * 1e9) / RATE_WINDOW_S

    def percentiles(self) -> tuple[float, float, float]:
        """Return the latency's median, 95th percentile and maximum; zeros if there was no inference."""
        latencies = tuple(self.latencies)
        if not latencies:
            return 0.0, 0.0, 0.0
        p50, p95 = np.percentile(latencies, [50, 95])
        return float(p50), float(p95), max(latencies)
