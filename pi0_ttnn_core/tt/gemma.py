"""Gemma's decoder in TTNN, for the prefix. Compare `reference/gemma.py`; the action expert is in `expert.py`.

The sequences of a batch are concatenated into one, [1, 1, batch * tokens, width]: each has its own positions in the
rotary tables, and the mask separates them.
"""

from __future__ import annotations

from functools import partial

import torch
import ttnn
from torch import Tensor as TorchTensor

from pi0_ttnn_core.configs import GemmaConfig
from pi0_ttnn_core.tt.common import (
    EXACT,
    GELU_TANH,
    KV,
    RMS_NORM_EPS,
    TILE,
    Linear,
    Rotary,
    Tensor,
    add_to,
    attend,
    kernel_config,
)
from pi0_ttnn_core.tt.weights.conversion import Weights, pad_rows, qkv_weight
from pi0_ttnn_core.tt.weights.modulation import Modulations


class GemmaRMSNormTTNN:
    """RMSNorm with a learned weight, stored as 1 + weight."""

    def __init__(self, weights: Weights) -> None:
        self.weight = weights.vector("weight", lambda: 1.0 + weights.tensor("weight"))

    def __call__(self, hidden: Tensor, step: int = 0) -> Tensor:
        """Return x / rms(x) * (1 + weight); `step` is ignored."""
        return ttnn.rms_norm(hidden, epsilon=RMS_NORM_EPS, weight=self.weight, compute_kernel_config=EXACT)


class GemmaAdaptiveRMSNormTTNN:
    """RMSNorm of PI0.5's expert, with its own scale and shift at each Euler step."""

    def __init__(self, weights: Weights, conditions: list[TorchTensor]) -> None:
        """Compute scales and shifts from the condition of each step, torch float32 [width]."""
        modulations, steps = Modulations(weights, conditions), range(len(conditions))
        self.scales = [weights.vector(f"scale.{step}", partial(modulations.scale, step)) for step in steps]
        self.shifts = [weights.vector(f"shift.{step}", partial(modulations.shift, step)) for step in steps]

    def __call__(self, hidden: Tensor, step: int) -> Tensor:
        """Return x / rms(x) * scale + shift at Euler step `step`."""
        return ttnn.rms_norm(
            hidden,
            epsilon=RMS_NORM_EPS,
            weight=self.scales[step],
            bias=self.shifts[step],
            compute_kernel_config=EXACT,
        )


class GemmaRotaryEmbeddingTTNN:
    """Rotary position embedding as in the reference; the tables are uploaded with the inputs."""

    @staticmethod
    def rotate(x: Tensor, rotary: Rotary) -> Tensor:
        """Return x [1, heads, tokens, head_dim], each pair rotated by its angle."""
        return ttnn.experimental.rotary_embedding(x, *rotary, compute_kernel_config=EXACT)


class GemmaAttentionTTNN:
    """Grouped-query attention with an additive mask."""

    def __init__(self, config: GemmaConfig, weights: Weights) -> None:
        self.gemma = config
        self.config = kernel_config(weights.precision.attention)
        # The scale of the logits is folded into the queries.
        self.qkv_proj = weights.linear_from("qkv_proj", lambda: qkv_weight(weights, config))
        self.o_proj = weights.linear("o_proj", bias=False)

    def heads(self, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, KV]:
        """Return queries, and keys and values, of `hidden` after the rotary embedding."""
        # [1, 1, T, (H + 2 K) * D] -> [1, H, T, D] and twice [1, K, T, D]
        q, k, v = ttnn.experimental.nlp_create_qkv_heads(
            self.qkv_proj(hidden),
            num_heads=self.gemma.num_heads,
            num_kv_heads=self.gemma.num_kv_heads,
            transpose_k_heads=False,
        )
        rotate = GemmaRotaryEmbeddingTTNN.rotate
        return rotate(q, rotary), (rotate(k, rotary), v)

    def __call__(self, hidden: Tensor, rotary: Rotary, mask: Tensor) -> tuple[Tensor, KV]:
        """Return the attention of `hidden` over itself, and its keys and values. The mask is [1, 1, queries, keys]."""
        query, kv = self.heads(hidden, rotary)
        attended = attend(query, kv, self.config, scale=1.0, mask=mask)
        # [1, H, T, D] -> [1, 1, T, H * D]
        return self.o_proj(ttnn.experimental.nlp_concat_heads(attended)), kv


class GemmaMLPTTNN:
    """GeGLU with tanh-GELU, in two halves of its width: as a whole, at full size, it would not fit into L1."""

    def __init__(self, weights: Weights) -> None:
        def half_linear(name: str, half: int, activation: ttnn.UnaryWithParam | None = None) -> Linear:
            return weights.linear_from(
                f"{name}_proj.{half}", lambda: _halves(weights.tensor(f"{name}_proj.weight"))[half], None, activation
            )

        self.gate_up_proj = [(half_linear("gate", half, GELU_TANH), half_linear("up", half)) for half in range(2)]
        self.down_proj = weights.linear_from(
            "down_proj", lambda: torch.cat(_halves(weights.tensor("down_proj.weight").T)).T
        )

    def __call__(self, hidden: Tensor) -> Tensor:
        """Map [1, 1, rows, width] to the same shape."""
        return self.down_proj([_gated(gate_proj(hidden), up_proj(hidden)) for gate_proj, up_proj in self.gate_up_proj])


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    return ttnn.mul(gate, up, output_tensor=gate)


def _halves(weight: TorchTensor) -> tuple[TorchTensor, ...]:
    """Return the two halves of the rows, padded with zeros to whole tiles."""
    return pad_rows(weight, 2 * TILE).chunk(2)


class GemmaDecoderBlockTTNN:
    """One pre-norm decoder block of the prefix."""

    def __init__(self, config: GemmaConfig, weights: Weights) -> None:
        self.input_layernorm = GemmaRMSNormTTNN(weights.child("input_layernorm"))
        self.self_attn = GemmaAttentionTTNN(config, weights.child("self_attn"))
        self.post_attention_layernorm = GemmaRMSNormTTNN(weights.child("post_attention_layernorm"))
        self.mlp = GemmaMLPTTNN(weights.child("mlp"))

    def key_value(self, hidden: Tensor, rotary: Rotary) -> KV:
        """Return the block's keys and values of its input `hidden`."""
        _, kv = self.self_attn.heads(self.input_layernorm(hidden), rotary)
        return kv

    def __call__(self, hidden: Tensor, rotary: Rotary, mask: Tensor) -> tuple[Tensor, KV]:
        """Return the block's output, written into `hidden`, and its own keys and values."""
        attended, kv = self.self_attn(self.input_layernorm(hidden), rotary, mask)
        hidden = add_to(hidden, attended)
        del attended
        return add_to(hidden, self.mlp(self.post_attention_layernorm(hidden))), kv


class GemmaPrefixTTNN:
    """The prefix's stack of decoder blocks, without the final norm, which nothing uses."""

    def __init__(self, config: GemmaConfig, weights: Weights) -> None:
        self.layers = [GemmaDecoderBlockTTNN(config, weights.child(f"layers.{layer}")) for layer in range(config.depth)]

    def prefill(self, hidden: Tensor, rotary: Rotary, mask: Tensor, cache: list[KV]) -> None:
        """Write the keys and values of `hidden` into the first rows of the cache.

        The last layer computes only keys and values.
        """
        for layer, cached in zip(self.layers[:-1], cache, strict=False):
            hidden, kv = layer(hidden, rotary, mask)
            _fill(cached, kv)
        _fill(cache[-1], self.layers[-1].key_value(hidden, rotary))


def _fill(cache: KV, kv: KV) -> None:
    for cached, new in zip(cache, kv, strict=True):
        ttnn.fill_cache(cached, new, 0)
