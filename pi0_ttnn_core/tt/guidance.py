"""Real-time chunking in TTNN: a flow that agrees with actions that are being executed.

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
    """What the actions have to agree with, all bfloat16 [1, 1, batch * suffix, action_dim].

    actions: rounded
    remainder: what rounding took from the actions
    weights: how binding each value is; 0 where it is free
    """

    actions: Tensor
    remainder: Tensor
    weights: Tensor


def guide(
    displacement: Callable[[Tensor, int], tuple[Tensor, Vjp]], target: DeviceTarget, num_steps: int
) -> Callable[[Tensor, int], list[Tensor]]:
    """Return what a step of the guided flow adds, in two parts: the flow, and what draws it towards the target.

    Args:
        displacement: maps x, float32, and the number of the step to what the step adds, bfloat16, with its vjp.
    """

    def guided(x: Tensor, step: int) -> list[Tensor]:
        time = 1.0 - step / num_steps
        flow, vjp = displacement(x, step)
        # The flow is -velocity / num_steps.
        clean = ttnn.add(x, ttnn.mul(flow, time * num_steps), dtype=ttnn.float32)
        beyond = ttnn.subtract(clean, target.actions, dtype=ttnn.float32)
        # Its factors, too, have to be bfloat16.
        error = ttnn.mul(ttnn.subtract(beyond, target.remainder, dtype=ttnn.bfloat16), target.weights)
        correction = ttnn.add(error, ttnn.mul(vjp(error), time * num_steps))
        return [flow, ttnn.mul(correction, -guidance_weight(time) / num_steps)]

    return guided


def guidance_weight(time: float) -> float:
    """Return how strong the guidance is at a time in (0, 1]."""
    tau = 1.0 - time
    return min((tau**2 + time**2) / (tau * time), MAX_GUIDANCE_WEIGHT) if tau else MAX_GUIDANCE_WEIGHT
