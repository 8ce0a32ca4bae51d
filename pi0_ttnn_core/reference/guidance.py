"""Real-time chunking in torch: a flow that agrees with actions that are being executed.

Black, Galliker, Levine 2025, "Real-Time Execution of Action Chunking Flow Policies" (arXiv 2506.07339), algorithm 1.
The paper's time runs from 0 (noise) to 1 (actions), PI0's the other way.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MAX_GUIDANCE_WEIGHT = 10.0

Velocity = Callable[[Tensor, Tensor], Tensor]


def guide(velocity: Velocity, actions: Tensor, weights: Tensor) -> Velocity:
    """Return `velocity` with the guidance that draws the clean actions it leads to towards `actions`.

    Args:
        velocity: as `denoise` takes it, differentiable in x.
        actions: float32 [batch, horizon, values], normalised; values beyond them are free.
        weights: float32 [horizon], how binding each action is.
    """

    def guided(x: Tensor, time: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            flow = velocity(x, time).float()
            clean = x - time[:, None, None] * flow
            error = torch.zeros_like(clean)
            known = slice(actions.shape[-1])
            error[..., known] = (actions - clean[..., known].detach()) * weights[:, None]
            (correction,) = torch.autograd.grad(clean, x, error)
        return flow.detach() - guidance_weight(time)[:, None, None] * correction

    return guided


def guidance_weight(time: Tensor) -> Tensor:
    """Return min(beta, (1 - tau) / (tau r^2)) with tau = 1 - time, r^2 = (1 - tau)^2 / (tau^2 + (1 - tau)^2)."""
    tau = 1.0 - time
    return ((tau**2 + time**2) / (tau * time)).clamp(max=MAX_GUIDANCE_WEIGHT)
