"""How well two results agree, and what is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# The lowest PCC that passes.
THRESHOLDS = {"accuracy": 0.9995, "default": 0.999, "fast": 0.995}
# Where errors add up, over ten steps or through all layers and back.
LONG_COMPONENTS = ("actions", "guided_actions", "expert_step_vjp")
LONG = {"accuracy": 0.9995, "default": 0.998, "fast": 0.98}
EXACT = 0.9999
EXACT_COMPONENTS = ("prefix_embedding", "prefix_rms_norm", "expert_rms_norm", "expert_adaptive_rms_norm")


@dataclass(frozen=True)
class Pair:
    """A component's results, float32. `base` is what the component adds to: it alone would correlate."""

    expected: Tensor
    actual: Tensor
    base: Tensor | None = None


@dataclass(frozen=True)
class Comparison:
    """One component's result.

    shape: of what was compared
    pcc: Pearson's correlation with the reference, of the result or of what it adds to its input, whichever is lower
    max_error: largest absolute difference
    skipped: why it was not run
    error: why it has no result
    """

    component: str
    threshold: float
    shape: Sequence[int] = ()
    pcc: float | None = None
    max_error: float | None = None
    skipped: str = ""
    error: str = ""

    @property
    def passed(self) -> bool:
        return self.pcc is not None and self.pcc >= self.threshold

    def __str__(self) -> str:
        name = f"{self.component:26}"
        if self.skipped or self.error:
            return name + (f"skipped: {self.skipped}" if self.skipped else f"FAILED: {self.error}")
        shape = "x".join(map(str, self.shape))
        verdict = "pass" if self.passed else "FAILED"
        return f"{name}{shape:14} {self.pcc:9.6f} {self.max_error:10.4f} {self.threshold:10.4f}  {verdict}"


def threshold(component: str, precision: str) -> float:
    """Return the lowest PCC with which a component passes."""
    if component in EXACT_COMPONENTS and precision != "fast":
        return EXACT
    return (LONG if component in LONG_COMPONENTS else THRESHOLDS)[precision]


def pcc(expected: np.ndarray, actual: np.ndarray) -> float:
    """Return Pearson's correlation coefficient; NaN where a value is not finite or all are the same."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(expected.ravel(), actual.ravel())[0, 1])


def compare(name: str, lowest: float, pair: Pair) -> Comparison:
    """Return how well the device's result agrees with the reference's."""
    expected, actual = pair.expected.double().numpy(), pair.actual.double().numpy()
    if expected.shape != actual.shape or not np.isfinite(actual).all():
        return Comparison(name, lowest, expected.shape, error=f"not finite, or of shape {actual.shape}")
    lower = pcc(expected, actual)
    if pair.base is not None:
        base = pair.base.double().numpy()
        lower = min(lower, pcc(expected - base, actual - base))
    if not np.isfinite(lower):
        return Comparison(name, lowest, expected.shape, error="the result is the same everywhere")
    return Comparison(name, lowest, expected.shape, lower, float(np.abs(expected - actual).max()))
