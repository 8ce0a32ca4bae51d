"""Flow matching in torch: from noise to actions by Euler steps (Black et al. 2024, "pi0", section IV)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def denoise(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, num_steps: int) -> Tensor:
    """Integrate dx/dt = velocity(x, t) from the noise at t = 1 to the actions at t = 0.

    Args:
        velocity: maps x [batch, horizon, action_dim] float32 and times [batch] float32 to dx/dt.
        noise: float32 [batch, horizon, action_dim].
        num_steps: Euler steps, each of -1 / num_steps.
    Returns:
        float32 [batch, horizon, action_dim]. The state stays in float32 whatever the model computes in: rounding it
        at every step costs accuracy that the model does not.
    """
    x = noise.float()
    for step in range(num_steps):
        time = torch.full((x.shape[0],), 1.0 - step / num_steps, device=x.device)
        x = x - velocity(x, time).float() / num_steps
    return x
