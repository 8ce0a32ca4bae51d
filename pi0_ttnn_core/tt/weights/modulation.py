"""PI0.5's adaptive norms at each Euler step: constants, computed when the model is loaded."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from pi0_ttnn_core.tt.weights.conversion import Weights


class Modulations:
    """Scale, shift and gate of one norm at each Euler step, torch float32 [width].

    The norm is x / rms(x) * scale + shift; the gate is that of the branch that follows.
    """

    def __init__(self, norm: Weights, conditions: list[Tensor]) -> None:
        """Take the norm's weights, and the condition of each step, float32 [width]."""
        self._norm = norm
        self._conditions = conditions

    @cached_property
    def _parts(self) -> list[tuple[Tensor, ...]]:
        dense, bias = self._norm.tensor("dense.weight"), self._norm.tensor("dense.bias")
        return [(dense @ condition + bias).chunk(3) for condition in self._conditions]

    def scale(self, step: int) -> Tensor:
        """Return the scale at Euler step `step`."""
        return 1.0 + self._parts[step][0]

    def shift(self, step: int) -> Tensor:
        """Return the shift at Euler step `step`."""
        return self._parts[step][1]

    def gate(self, step: int) -> Tensor:
        """Return the gate at Euler step `step`."""
        return self._parts[step][2]
