"""Flow matching in torch: from noise to actions by Euler steps (Black et al. 2024, "pi0", section IV)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def denoise(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, num_steps: int) -> Tensor:
    """Integrate dx/dt = v from the noise at t = 1 to the actions at t = 0.

    Each Euler step is x_(t + dt) = x_t + dt * v_t with dt = -1 / num_steps. x_t stays in float32 whatever the model's
    dtype: rounding it at every step would lose more accuracy than the model does.

    Args:
        velocity: maps x_t, float32 [batch, horizon, action_dim], and times t, float32 [batch], to v_t.
        noise: float32 [batch, horizon, action_dim].
        num_steps: number of Euler steps.

    Returns:
        float32 [batch, horizon, action_dim].
    """
    x_t = noise.float()
    for step in range(num_steps):
        time = torch.full((x_t.shape[0],), 1.0 - step / num_steps, device=x_t.device)
        v_t = velocity(x_t, time)
        x_t = x_t - v_t.float() / num_steps
    return x_t
