"""Real-time chunking in torch: a flow guided towards the actions that are being executed.

Black, Galliker, Levine 2025, "Real-Time Execution of Action Chunking Flow Policies" (arXiv 2506.07339), algorithm 1.
The paper's time tau runs from 0 (noise) to 1 (actions); PI0's runs the other way, t = 1 - tau.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MAX_GUIDANCE_WEIGHT = 10.0

Velocity = Callable[[Tensor, Tensor], Tensor]


def guide(velocity: Velocity, actions: Tensor, weights: Tensor) -> Velocity:
    """Return the guided velocity, which leads to clean actions nearer to the target.

    Args:
        velocity: as for `denoise`, differentiable in x_t.
        actions: float32 [batch, horizon, values], normalised. The target; further values of an action are free.
        weights: float32 [horizon]. The soft mask W.
    """

    def guided(x_t: Tensor, time: Tensor) -> Tensor:
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            v_t = velocity(x_t, time).float()
            # The clean actions x_0 to which v_t leads in one step.
            clean = x_t - time[:, None, None] * v_t
            error = torch.zeros_like(clean)
            known = slice(actions.shape[-1])
            error[..., known] = (actions - clean[..., known].detach()) * weights[:, None]
            # W (target - x_0) times the Jacobian of x_0.
            (correction,) = torch.autograd.grad(clean, x_t, error)
        return v_t.detach() - guidance_weight(time)[:, None, None] * correction

    return guided


def guidance_weight(time: Tensor) -> Tensor:
    """Return min(beta, (1 - tau) / (tau r^2)), where tau = 1 - time and r^2 = (1 - tau)^2 / (tau^2 + (1 - tau)^2)."""
    tau = 1.0 - time
    return ((tau**2 + time**2) / (tau * time)).clamp(max=MAX_GUIDANCE_WEIGHT)
