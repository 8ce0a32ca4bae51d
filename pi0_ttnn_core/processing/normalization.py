"""Vectors of states and actions between the robot's units and the model's, by the statistics of the training data.

The peers differ in what they add to a divisor, and so in the result: LeRobot 0.6.1 (processor/normalize_processor.py)
adds 1e-8 to a standard deviation and puts 1e-8 in the place of a zero range; openpi (transforms.py, Normalize) adds
1e-6 to both, on the way in and on the way out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pi0_ttnn_core.checkpoints.statistics import KINDS, Statistics

CONVENTIONS = ("lerobot", "openpi")
OPENPI_EPS = 1e-6


class Normalization(Protocol):
    """Maps vectors [..., size]; the result has the dtype of the statistics."""

    def normalize(self, x: np.ndarray) -> np.ndarray: ...

    def unnormalize(self, x: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Identity:
    """The model works in the robot's units."""

    def normalize(self, x: np.ndarray) -> np.ndarray:
        return x

    def unnormalize(self, x: np.ndarray) -> np.ndarray:
        return x

    def __str__(self) -> str:
        return "none"


@dataclass(frozen=True)
class MeanStd:
    """(x - mean) / (std + eps) and back x * (std + eps_back) + mean."""

    mean: np.ndarray
    std: np.ndarray
    eps: float
    eps_back: float

    def normalize(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / (self.std + self.std.dtype.type(self.eps))

    def unnormalize(self, x: np.ndarray) -> np.ndarray:
        return x * (self.std + self.std.dtype.type(self.eps_back)) + self.mean

    def __str__(self) -> str:
        return f"mean and standard deviation (eps {self.eps:g})"


@dataclass(frozen=True)
class Range:
    """2 (x - low) / span - 1, which maps low to -1 and low + span to 1, and its inverse."""

    low: np.ndarray
    span: np.ndarray

    def normalize(self, x: np.ndarray) -> np.ndarray:
        return 2.0 * (x - self.low) / self.span - 1.0

    def unnormalize(self, x: np.ndarray) -> np.ndarray:
        return (x + 1.0) * self.span / 2.0 + self.low

    def __str__(self) -> str:
        return "range to [-1, 1]"


def make_normalization(statistics: Statistics, size: int, conventions: str) -> Normalization:
    """Return the normalization of vectors of `size` by the conventions of one peer; longer statistics are cut."""
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
