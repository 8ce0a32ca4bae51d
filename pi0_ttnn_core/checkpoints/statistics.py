"""Statistics of the training data, as a checkpoint holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# The names of the two statistics that each kind is made of.
KINDS = {
    "mean_std": ("mean", "std"),
    "quantiles": ("q01", "q99"),
    "quantile10": ("q10", "q90"),
    "min_max": ("min", "max"),
}


@dataclass(frozen=True)
class Statistics:
    """Of one feature: the kind (one of KINDS, or "identity") and its two vectors by name, of any length.

    `missing` says in words why there are none, where the kind asks for them: the bare model runs without.
    """

    kind: str
    values: Mapping[str, np.ndarray]
    eps: float = 1e-8
    missing: str = ""
