"""Statistics of the training data, as stored in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Names of the two statistics of each kind.
KINDS = {
    "mean_std": ("mean", "std"),
    "quantiles": ("q01", "q99"),
    "quantile10": ("q10", "q90"),
    "min_max": ("min", "max"),
}


@dataclass(frozen=True)
class Statistics:
    """Statistics of one feature.

    Attributes:
        kind: one of KINDS, or "identity".
        values: the two vectors by name, [size].
        eps: added to divisors by LeRobot.
        missing: why there are no values although the kind needs them. The bare model can run without.
    """

    kind: str
    values: Mapping[str, np.ndarray]
    eps: float = 1e-8
    missing: str = ""
