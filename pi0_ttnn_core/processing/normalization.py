"""Normalise states and actions by the statistics of the training data, and undo it.

LeRobot and openpi add different numbers to a divisor: LeRobot 0.6.1 (processor/normalize_processor.py) adds 1e-8 to a
standard deviation and replaces a zero range by 1e-8; openpi (transforms.py, Normalize) adds 1e-6 to both, and does so
when unnormalising too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pi0_ttnn_core.checkpoints.statistics import KINDS, Statistics

CONVENTIONS = ("lerobot", "openpi")
OPENPI_EPS = 1e-6


class Normalization(Protocol):
    """Maps vectors [..., size] from the robot's units to normalised values and back."""

    def normalize(self, x: np.ndarray) -> np.ndarray:
        """Return normalised values, of the dtype of the statistics."""
        ...

    def unnormalize(self, x: np.ndarray) -> np.ndarray:
        """Return values in the robot's units, of the dtype of the statistics."""
        ...


@dataclass(frozen=True)
class Identity:
    """No normalisation: the model works in the robot's units."""

    def normalize(self, x: np.ndarray) -> np.ndarray:
        """Return x."""
        return x

    def unnormalize(self, x: np.ndarray) -> np.ndarray:
        """Return x."""
        return x

    def __str__(self) -> str:
        return "none"


@dataclass(frozen=True)
class MeanStd:
    """Normalisation by mean and standard deviation.

    Attributes:
        mean: [size].
        std: [size].
        eps: added to `std` when normalising.
        eps_back: added to `std` when unnormalising.
    """

    mean: np.ndarray
    std: np.ndarray
    eps: float
    eps_back: float

    def normalize(self, x: np.ndarray) -> np.ndarray:
        """Return (x - mean) / (std + eps)."""
        return (x - self.mean) / (self.std + self.std.dtype.type(self.eps))

    def unnormalize(self, x: np.ndarray) -> np.ndarray:
        """Return x * (std + eps_back) + mean."""
        return x * (self.std + self.std.dtype.type(self.eps_back)) + self.mean

    def __str__(self) -> str:
        return f"mean and standard deviation (eps {self.eps:g})"


@dataclass(frozen=True)
class Range:
    """Normalisation by a range: `low` is mapped to -1, `low + span` to 1.

    Attributes:
        low: [size].
        span: [size].
    """

    low: np.ndarray
    span: np.ndarray

    def normalize(self, x: np.ndarray) -> np.ndarray:
        """Return 2 (x - low) / span - 1."""
        return 2.0 * (x - self.low) / self.span - 1.0

    def unnormalize(self, x: np.ndarray) -> np.ndarray:
        """Return (x + 1) span / 2 + low."""
        return (x + 1.0) * self.span / 2.0 + self.low

    def __str__(self) -> str:
        return "range to [-1, 1]"


def make_normalization(statistics: Statistics, size: int, conventions: str) -> Normalization:
    """Return the normalization of vectors [..., size] by one of CONVENTIONS; longer statistics are truncated."""
    if statistics.kind == "identity":
        return Identity()
    low, high = (statistics.values[name][:size] for name in KINDS[statistics.kind])
    if statistics.kind == "mean_std":
        if conventions == "openpi":
            return MeanStd(low, high, OPENPI_EPS, OPENPI_EPS)
        return MeanStd(low, high, statistics.eps, 0.0)
    span = high - low
    if conventions == "openpi":
        return Range(low, span + span.dtype.type(OPENPI_EPS))
    return Range(low, np.where(span == 0.0, span.dtype.type(statistics.eps), span))
