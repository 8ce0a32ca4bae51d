"""The suffix in torch: state, noisy actions x_t and time, embedded for the action expert (openpi models/pi0.py)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pi0_ttnn_core.configs import PI0Config


def create_sinusoidal_pos_embedding_torch(time: Tensor, width: int, min_period: float, max_period: float) -> Tensor:
    """Return [sin, cos] of 2 pi t / period for times t [batch], with geometric periods: float64 [batch, width]."""
    fraction = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64, device=time.device)
    period = min_period * (max_period / min_period) ** fraction
    angle = 2 * math.pi * time.double()[:, None] / period
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class SuffixEmbeddingTorch(nn.Module):
    """Projections into and out of the action expert."""

    def __init__(self, config: PI0Config) -> None:
        super().__init__()
        width = config.expert.width
        self.config = config
        self.action_in_proj = nn.Linear(config.action_dim, width)
        self.action_out_proj = nn.Linear(width, config.action_dim)
        if config.pi05:
            self.time_mlp_in = nn.Linear(width, width)
            self.time_mlp_out = nn.Linear(width, width)
        else:
            self.state_proj = nn.Linear(config.action_dim, width)
            self.action_time_mlp_in = nn.Linear(2 * width, width)
            self.action_time_mlp_out = nn.Linear(width, width)

    def embed_state(self, state: Tensor) -> Tensor:
        """Map the state [batch, action_dim] to one token [batch, 1, width]. PI0 only."""
        return self.state_proj(state)[:, None]

    def embed_actions(self, actions: Tensor) -> Tensor:
        """Map noisy actions [batch, horizon, action_dim] to [batch, horizon, width]."""
        return self.action_in_proj(actions)

    def embed_timestep(self, time: Tensor) -> Tensor:
        """Map times [batch] in [0, 1] to [batch, width]."""
        config = self.config
        embedding = create_sinusoidal_pos_embedding_torch(
            time, config.expert.width, config.min_period, config.max_period
        )
        return embedding.to(self.action_in_proj.weight.dtype)

    def fuse_action_time(self, actions: Tensor, time: Tensor) -> Tensor:
        """Fuse embedded actions [batch, horizon, width] and embedded times [batch, width] in an MLP. PI0 only."""
        fused = torch.cat([actions, time[:, None].expand_as(actions)], dim=-1)
        return self.action_time_mlp_out(F.silu(self.action_time_mlp_in(fused)))

    def condition(self, time: Tensor) -> Tensor:
        """Map embedded times [batch, width] to the condition of PI0.5's adaptive norms [batch, width]."""
        return F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(time))))

    def embed_suffix(self, state: Tensor, actions: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the expert's input [batch, suffix, width] and the condition of its norms [batch, width].

        PI0: the state token, then the actions fused with the time, and no condition. PI0.5: the actions alone.
        """
        embedded, embedded_time = self.embed_actions(actions), self.embed_timestep(time)
        if self.config.pi05:
            return embedded, self.condition(embedded_time)
        fused = self.fuse_action_time(embedded, embedded_time)
        return torch.cat([self.embed_state(state), fused], dim=1), None

    def project_output(self, hidden: Tensor) -> Tensor:
        """Map the expert's output at the action tokens [batch, horizon, width] to [batch, horizon, action_dim]."""
        return self.action_out_proj(hidden)
