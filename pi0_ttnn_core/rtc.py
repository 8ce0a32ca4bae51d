"""Real-time chunking: the target that guides a new chunk (Black, Galliker, Levine 2025, arXiv 2506.07339)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GuidanceTarget:
    """Actions being executed while the next chunk is inferred, with their guidance weights.

    Attributes:
        actions: float32 [..., horizon, values]. In the robot's units for a policy, normalised for a backend.
        weights: float32 [horizon] in [0, 1]. 1 for actions that will have been executed by then, 0 for free ones.
    """

    actions: np.ndarray
    weights: np.ndarray


def unguided_target(batch: int, horizon: int, values: int) -> GuidanceTarget:
    """Return a target whose weights are all zero: it does not guide."""
    return GuidanceTarget(np.zeros((batch, horizon, values), np.float32), np.zeros(horizon, np.float32))


def soft_mask(horizon: int, num_frozen: int, overlap: int) -> np.ndarray:
    """Return the soft mask, float32 [horizon] (equation 5 of the paper).

    Args:
        horizon: number of actions.
        num_frozen: number of actions at the start that will have been executed; their weight is 1.
        overlap: action at which the earlier chunk ends. The weight decays exponentially until there; then it is 0.
    """
    index = np.arange(horizon)
    left = np.clip((overlap - index) / max(overlap - num_frozen + 1, 1), 0.0, 1.0)
    weights = left * np.expm1(left) / np.expm1(1.0)
    weights[:num_frozen] = 1.0
    weights[overlap:] = 0.0
    return weights.astype(np.float32)
