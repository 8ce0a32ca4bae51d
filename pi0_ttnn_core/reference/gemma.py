"""Gemma in torch, for the prefix and for the action expert (Gemma Team 2024; openpi models/gemma.py).

Type aliases:
    KV: keys and values of one layer, [batch, kv_heads, tokens, head_dim] both; keys after the rotary embedding. A KV
        cache is a list of them, one per layer.
    Rotary: cosines and sines of the rotary embedding, float32 [batch, 1, tokens, head_dim] both. Entries i and
        i + head_dim / 2 of a token are those of position * 10000^(-2 i / head_dim).

In comments on shapes, B is the batch, T tokens, H heads, K heads of keys and values, D the head's size.
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
    """RMSNorm with a learned weight, in float32 whatever the input's dtype, as Gemma was trained.

    Gemma rounds to the input's dtype only after it has multiplied by the weight (openpi models/gemma.py, RMSNorm);
    Llama rounds before (https://github.com/huggingface/transformers/pull/29402).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, hidden: Tensor, condition: Tensor | None = None) -> tuple[Tensor, None]:
        """Return (x / rms(x) * (1 + weight), None).

        `condition` is ignored; it is there so that both norms have the same signature.
        """
        return (_rms_normed(hidden) * (1.0 + self.weight.float())).to(hidden.dtype), None


class GemmaAdaptiveRMSNormTorch(nn.Module):
    """RMSNorm of PI0.5's expert: the condition gives scale, shift and gate (openpi models/gemma.py, RMSNorm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)

    def forward(self, hidden: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return x / rms(x) * (1 + scale) + shift, and the gate of the branch that follows, [batch, 1, width].

        `condition` is [batch, width].
        """
        scale, shift, gate = self.dense(condition)[:, None].chunk(3, dim=-1)
        normed = _rms_normed(hidden) * (1.0 + scale.float()) + shift.float()
        return normed.to(hidden.dtype), gate.to(hidden.dtype)


def _rms_normed(hidden: Tensor) -> Tensor:
    x = hidden.float()
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + RMS_NORM_EPS)


def gated_residual(hidden: Tensor, branch: Tensor, gate: Tensor | None) -> Tensor:
    """Return hidden + gate * branch, or hidden + branch without a gate."""
    return hidden + branch if gate is None else hidden + branch * gate


class GemmaRotaryEmbeddingTorch:
    """Rotary position embedding (Su et al. 2021, "RoFormer").

    Entry i of a head is paired with entry i + head_dim / 2, not with its neighbour.
    """

    def __init__(self, head_dim: int) -> None:
        self.head_dim = head_dim

    def tables(self, positions: Tensor) -> Rotary:
        """Return the tables for positions [batch, tokens]."""
        exponent = torch.arange(0, self.head_dim, 2, device=positions.device).float() / self.head_dim
        angle = positions[:, :, None].float() * ROPE_BASE**-exponent
        angle = torch.cat([angle, angle], dim=-1)[:, None]
        return angle.cos(), angle.sin()

    @staticmethod
    def rotate(x: Tensor, rotary: Rotary) -> Tensor:
        """Return x [batch, heads, tokens, head_dim], each pair rotated by its angle."""
        cos, sin = rotary
        first, second = x.float().chunk(2, dim=-1)
        rotated = torch.cat([-second, first], dim=-1)
        return (x.float() * cos + rotated * sin).to(x.dtype)


def append_kv(past: KV | None, own: KV) -> KV:
    """Return the keys and values of `past`, if there are any, followed by `own`."""
    if past is None:
        return own
    return torch.cat([past[0], own[0]], dim=2), torch.cat([past[1], own[1]], dim=2)


class GemmaAttentionTorch(nn.Module):
    """Grouped-query attention with an additive mask."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(config.width, config.num_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.width, config.num_kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.width, config.num_kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.num_heads * config.head_dim, config.width, bias=False)

    def key_value(self, hidden: Tensor, rotary: Rotary) -> KV:
        """Return the keys and values of `hidden` [batch, tokens, width]."""
        key = GemmaRotaryEmbeddingTorch.rotate(self._heads(self.k_proj(hidden)), rotary)
        return key, self._heads(self.v_proj(hidden))

    def attend(self, hidden: Tensor, kv: KV, rotary: Rotary, mask: Tensor) -> Tensor:
        """Return the attention of `hidden` [batch, queries, width] over `kv`; the mask is [batch, 1, queries, keys]."""
        query = GemmaRotaryEmbeddingTorch.rotate(self._heads(self.q_proj(hidden)), rotary)  # [B, H, T, D]
        # Keys and values are [B, K, keys, D]; each serves H / K heads.
        attended = F.scaled_dot_product_attention(query, *kv, attn_mask=mask.to(query.dtype), enable_gqa=True)
        # [B, H, T, D] -> [B, T, H * D]
        return self.o_proj(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        # [B, T, H * D] -> [B, H, T, D]
        return x.unflatten(2, (-1, self.head_dim)).transpose(1, 2)


class GemmaMLPTorch(nn.Module):
    """GeGLU with tanh-GELU."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.mlp_dim, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp_dim, bias=False)
        self.down_proj = nn.Linear(config.mlp_dim, config.width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [batch, tokens, width] to the same shape."""
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
        """Return the keys and values of the block's input [batch, tokens, width]; without adaptive norms only."""
        normed, _ = self.input_layernorm(hidden)
        return self.self_attn.key_value(normed, rotary)

    def forward(
        self, hidden: Tensor, rotary: Rotary, mask: Tensor, past: KV | None = None, condition: Tensor | None = None
    ) -> tuple[Tensor, KV]:
        """Return the block's output [batch, tokens, width] and its own keys and values.

        Args:
            hidden: [batch, tokens, width].
            rotary: the tables of these tokens.
            mask: additive, [batch, 1, tokens, keys].
            past: keys and values that come before the block's own.
            condition: [batch, width], for adaptive norms.
        """
        normed, gate = self.input_layernorm(hidden, condition)
        own = self.self_attn.key_value(normed, rotary)
        attended = self.self_attn.attend(normed, append_kv(past, own), rotary, mask)
        hidden = gated_residual(hidden, attended, gate)
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

        The last layer computes only keys and values: nothing uses its output.
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
        """Return the normed output [batch, tokens, width] of `hidden`, which attends to `cache` and itself."""
        rotary = self.rotary.tables(positions)
        for layer, past in zip(self.layers, cache, strict=True):
            hidden, _ = layer(hidden, rotary, mask, past, condition)
        normed, _ = self.norm(hidden, condition)
        return normed
