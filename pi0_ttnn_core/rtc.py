"""Real-time chunking: what a new chunk has to agree with (Black, Galliker, Levine 2025, arXiv 2506.07339)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GuidanceTarget:
    """Actions that are being executed while the next chunk is inferred, and how binding each is.

    actions: float32 [..., horizon, values]; in the robot's units for a policy, normalised for a backend
    weights: float32 [horizon] in [0, 1]: 1 where the action will have been executed by then, 0 where all is free
    """

    actions: np.ndarray
    weights: np.ndarray


def unguided_target(batch: int, horizon: int, values: int) -> GuidanceTarget:
    """Return a target without weight: it changes nothing."""
    return GuidanceTarget(np.zeros((batch, horizon, values), np.float32), np.zeros(horizon, np.float32))


def soft_mask(horizon: int, frozen: int, overlap: int) -> np.ndarray:
    """Return the soft mask, float32 [horizon] (equation 5 of the paper).

    1 for the first `frozen` actions, then falling exponentially until action `overlap`, where the earlier chunk ends;
    0 from there on.
    """
    index = np.arange(horizon)
    left = np.clip((overlap - index) / max(overlap - frozen + 1, 1), 0.0, 1.0)
    weights = left * np.expm1(left) / np.expm1(1.0)
    weights[:frozen] = 1.0
    weights[overlap:] = 0.0
    return weights.astype(np.float32)
