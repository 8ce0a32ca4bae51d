"""How well two results agree, and the thresholds to pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# The lowest PCC that passes.
THRESHOLDS = {"accuracy": 0.9995, "default": 0.999, "fast": 0.995}
# Components whose errors accumulate: over all Euler steps, or forward and backward through all layers.
LONG_COMPONENTS = ("actions", "guided_actions", "expert_step_vjp")
LONG = {"accuracy": 0.9995, "default": 0.998, "fast": 0.98}
# For norms and the prefix embedding.
EXACT = 0.9999
EXACT_COMPONENTS = ("prefix_embedding", "prefix_rms_norm", "expert_rms_norm", "expert_adaptive_rms_norm")


@dataclass(frozen=True)
class Pair:
    """Results of one component, float32.

    Attributes:
        expected: the reference's.
        actual: the device's, of the same shape.
        base: the input that a residual component adds to; it alone would correlate.
    """

    expected: Tensor
    actual: Tensor
    base: Tensor | None = None


@dataclass(frozen=True)
class Comparison:
    """Comparison of one component with the reference.

    Attributes:
        component: name of the component.
        threshold: lowest PCC that passes.
        shape: shape of the compared results.
        pcc: Pearson's correlation coefficient, of the results or of what they add to the input, whichever is lower.
        max_error: largest absolute difference.
        skipped: why the component was not run.
        error: why there is no result.
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
        """Whether the PCC reaches the threshold."""
        return self.pcc is not None and self.pcc >= self.threshold

    def __str__(self) -> str:
        name = f"{self.component:26}"
        if self.skipped or self.error:
            return name + (f"skipped: {self.skipped}" if self.skipped else f"FAILED: {self.error}")
        shape = "x".join(map(str, self.shape))
        verdict = "pass" if self.passed else "FAILED"
        return f"{name}{shape:14} {self.pcc:9.6f} {self.max_error:10.4f} {self.threshold:10.4f}  {verdict}"


def threshold(component: str, precision: str) -> float:
    """Return the lowest PCC that passes, for a component and a precision preset."""
    if component in EXACT_COMPONENTS and precision != "fast":
        return EXACT
    return (LONG if component in LONG_COMPONENTS else THRESHOLDS)[precision]


def pcc(expected: np.ndarray, actual: np.ndarray) -> float:
    """Return Pearson's correlation coefficient; NaN if a value is not finite or all are the same."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(expected.ravel(), actual.ravel())[0, 1])


def compare(name: str, lowest: float, pair: Pair) -> Comparison:
    """Compare the device's result with the reference's."""
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
