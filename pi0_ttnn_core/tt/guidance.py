"""Real-time chunking in TTNN: a flow guided towards the actions that are being executed.

Compare `reference/guidance.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ttnn

from pi0_ttnn_core.reference.guidance import MAX_GUIDANCE_WEIGHT
from pi0_ttnn_core.tt.common import Tensor
from pi0_ttnn_core.tt.vjp import Vjp


@dataclass(frozen=True)
class DeviceTarget:
    """A `GuidanceTarget` on the device, in two bfloat16 parts: as one, rounding would move the target.

    Attributes:
        actions: bfloat16 [1, 1, batch * suffix, action_dim], rounded.
        remainder: of the same dtype and shape. The actions minus the rounded ones.
        weights: of the same dtype and shape. The soft mask W; 0 where a value is free.
    """

    actions: Tensor
    remainder: Tensor
    weights: Tensor


def guide(
    displacement: Callable[[Tensor, int], tuple[Tensor, Vjp]], target: DeviceTarget, num_steps: int
) -> Callable[[Tensor, int], list[Tensor]]:
    """Return the displacement of the guided flow, as two summands: that of the flow, and the guidance.

    Args:
        displacement: maps x_t, float32, and the number of the Euler step to dt * v_t, bfloat16, and its vjp.
        target: the target and its weights.
        num_steps: number of Euler steps; dt is -1 / num_steps.
    """

    def guided(x_t: Tensor, step: int) -> list[Tensor]:
        time = 1.0 - step / num_steps
        flow, vjp = displacement(x_t, step)
        # The clean actions x_0 = x_t - time * v_t, where flow = dt * v_t.
        clean = ttnn.add(x_t, ttnn.mul(flow, time * num_steps), dtype=ttnn.float32)
        difference = ttnn.subtract(clean, target.actions, dtype=ttnn.float32)
        # Both factors of the product must be bfloat16.
        error = ttnn.mul(ttnn.subtract(difference, target.remainder, dtype=ttnn.bfloat16), target.weights)
        # The error times the Jacobian of x_0.
        correction = ttnn.add(error, ttnn.mul(vjp(error), time * num_steps))
        return [flow, ttnn.mul(correction, -guidance_weight(time) / num_steps)]

    return guided


def guidance_weight(time: float) -> float:
    """Return the weight of the guidance at a time in (0, 1]; see the reference."""
    tau = 1.0 - time
    return min((tau**2 + time**2) / (tau * time), MAX_GUIDANCE_WEIGHT) if tau else MAX_GUIDANCE_WEIGHT
