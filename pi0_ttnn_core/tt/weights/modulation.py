"""What PI0.5's adaptive norms do at each Euler step: constants, computed at load."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from pi0_ttnn_core.tt.weights.conversion import Weights


class Modulations:
    """Of one norm: x / rms(x) * scale + shift, and the gate of the branch that follows. All torch float32 [width]."""

    def __init__(self, norm: Weights, conditions: list[Tensor]) -> None:
        """Take the condition of each step, float32 [width]."""
        self._norm = norm
        self._conditions = conditions

    @cached_property
    def _parts(self) -> list[tuple[Tensor, ...]]:
        dense, bias = self._norm.tensor("dense.weight"), self._norm.tensor("dense.bias")
        return [(dense @ condition + bias).chunk(3) for condition in self._conditions]

    def scale(self, step: int) -> Tensor:
        return 1.0 + self._parts[step][0]

    def shift(self, step: int) -> Tensor:
        return self._parts[step][1]

    def gate(self, step: int) -> Tensor:
        return self._parts[step][2]
