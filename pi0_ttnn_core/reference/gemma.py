"""Gemma in torch, for the prefix and for the action expert (Gemma Team 2024; openpi models/gemma.py).

A key-value pair `KV` is two tensors [batch, kv_heads, tokens, head_dim], keys after the rotary embedding. A KV cache is
one pair per layer.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pi0_ttnn_core.configs import GemmaConfig

RMS_NORM_EPS = 1e-6
ROPE_BASE = 10000.0

KV = tuple[Tensor, Tensor]
Rotary = tuple[Tensor, Tensor]


class GemmaRMSNormTorch(nn.Module):
    """RMSNorm with a learned weight, computed in float32 whatever the input's dtype."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, hidden: Tensor, condition: Tensor | None = None) -> tuple[Tensor, None]:
        """Return x / rms(x) * (1 + weight), and no gate; there is no condition to it."""
        return (_rms_normed(hidden) * (1.0 + self.weight.float())).to(hidden.dtype), None


class GemmaAdaptiveRMSNormTorch(nn.Module):
    """RMSNorm of PI0.5's expert: scale, shift and gate come from the condition (openpi models/gemma.py, RMSNorm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)

    def forward(self, hidden: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return x / rms(x) * (1 + scale) + shift, and the gate [batch, 1, width] of the branch that follows."""
        scale, shift, gate = self.dense(condition)[:, None].chunk(3, dim=-1)
        normed = _rms_normed(hidden) * (1.0 + scale.float()) + shift.float()
        return normed.to(hidden.dtype), gate.to(hidden.dtype)


def _rms_normed(hidden: Tensor) -> Tensor:
    x = hidden.float()
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + RMS_NORM_EPS)


def gated_residual(hidden: Tensor, branch: Tensor, gate: Tensor | None) -> Tensor:
    """Return hidden + gate * branch; without a gate, their sum."""
    return hidden + branch if gate is None else hidden + branch * gate


class GemmaRotaryEmbeddingTorch:
    """Rotary position embedding in the halves layout (Su et al. 2021, "RoFormer")."""

    def __init__(self, head_dim: int) -> None:
        self.head_dim = head_dim

    def tables(self, positions: Tensor) -> Rotary:
        """Return (cos, sin), float32 [batch, 1, tokens, head_dim], for positions [batch, tokens]."""
        exponent = torch.arange(0, self.head_dim, 2, device=positions.device).float() / self.head_dim
        angle = positions[:, :, None].float() * ROPE_BASE**-exponent
        angle = torch.cat([angle, angle], dim=-1)[:, None]
        return angle.cos(), angle.sin()

    @staticmethod
    def rotate(x: Tensor, rotary: Rotary) -> Tensor:
        """Rotate x [batch, heads, tokens, head_dim]."""
        cos, sin = rotary
        first, second = x.float().chunk(2, dim=-1)
        rotated = torch.cat([-second, first], dim=-1)
        return (x.float() * cos + rotated * sin).to(x.dtype)


class GemmaAttentionTorch(nn.Module):
    """Grouped-query attention with an additive mask."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.groups = config.num_heads // config.num_kv_heads
        self.q_proj = nn.Linear(config.width, config.num_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.width, config.num_kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.width, config.num_kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.num_heads * config.head_dim, config.width, bias=False)

    def key_value(self, hidden: Tensor, rotary: Rotary) -> KV:
        """Return this layer's keys and values of `hidden` [batch, tokens, width]."""
        key = GemmaRotaryEmbeddingTorch.rotate(self._heads(self.k_proj(hidden)), rotary)
        return key, self._heads(self.v_proj(hidden))

    def attend(self, hidden: Tensor, kv: KV, rotary: Rotary, mask: Tensor) -> Tensor:
        """Let `hidden` [batch, queries, width] attend to `kv` under the mask [batch, 1, queries, keys]."""
        query = GemmaRotaryEmbeddingTorch.rotate(self._heads(self.q_proj(hidden)), rotary)
        key, value = (x.repeat_interleave(self.groups, dim=1) for x in kv)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
        return self.o_proj(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, self.head_dim)).transpose(1, 2)


class GemmaMLPTorch(nn.Module):
    """GeGLU with tanh-GELU."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.mlp_dim, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp_dim, bias=False)
        self.down_proj = nn.Linear(config.mlp_dim, config.width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(hidden), approximate="tanh") * self.up_proj(hidden))


class GemmaDecoderBlockTorch(nn.Module):
    """One pre-norm decoder block, with adaptive norms in PI0.5's expert."""

    def __init__(self, config: GemmaConfig, adaptive: bool = False) -> None:
        super().__init__()
        norm = GemmaAdaptiveRMSNormTorch if adaptive else GemmaRMSNormTorch
        self.input_layernorm = norm(config.width)
        self.self_attn = GemmaAttentionTorch(config)
        self.post_attention_layernorm = norm(config.width)
        self.mlp = GemmaMLPTorch(config)

    def key_value(self, hidden: Tensor, rotary: Rotary) -> KV:
        normed, _ = self.input_layernorm(hidden)
        return self.self_attn.key_value(normed, rotary)

    def forward(
        self, hidden: Tensor, rotary: Rotary, mask: Tensor, past: KV | None = None, condition: Tensor | None = None
    ) -> tuple[Tensor, KV]:
        """Return the block's output and its own keys and values.

        `past` is attended to as well, before the own; `condition` [batch, width] is what adaptive norms depend on.
        """
        normed, gate = self.input_layernorm(hidden, condition)
        own = self.self_attn.key_value(normed, rotary)
        kv = own if past is None else (torch.cat([past[0], own[0]], dim=2), torch.cat([past[1], own[1]], dim=2))
        hidden = gated_residual(hidden, self.self_attn.attend(normed, kv, rotary, mask), gate)
        normed, gate = self.post_attention_layernorm(hidden, condition)
        return gated_residual(hidden, self.mlp(normed), gate), own


class GemmaModelTorch(nn.Module):
    """A stack of decoder blocks with a final norm."""

    def __init__(self, config: GemmaConfig, adaptive: bool = False) -> None:
        super().__init__()
        self.rotary = GemmaRotaryEmbeddingTorch(config.head_dim)
        self.layers = nn.ModuleList(GemmaDecoderBlockTorch(config, adaptive) for _ in range(config.depth))
        self.norm = GemmaAdaptiveRMSNormTorch(config.width) if adaptive else GemmaRMSNormTorch(config.width)

    def prefill(self, hidden: Tensor, mask: Tensor, positions: Tensor) -> list[KV]:
        """Return the KV cache of `hidden` [batch, tokens, width].

        Of the last layer only keys and values are computed: nothing uses the rest.
        """
        rotary = self.rotary.tables(positions)
        cache: list[KV] = []
        for layer in self.layers[:-1]:
            hidden, kv = layer(hidden, rotary, mask)
            cache.append(kv)
        return [*cache, cast(GemmaDecoderBlockTorch, self.layers[-1]).key_value(hidden, rotary)]

    def forward(
        self, hidden: Tensor, mask: Tensor, positions: Tensor, cache: list[KV], condition: Tensor | None = None
    ) -> Tensor:
        """Return the normed output for `hidden` [batch, tokens, width], which attends to `cache` and to itself."""
        rotary = self.rotary.tables(positions)
        for layer, past in zip(self.layers, cache, strict=True):
            hidden, _ = layer(hidden, rotary, mask, past, condition)
        normed, _ = self.norm(hidden, condition)
        return normed
