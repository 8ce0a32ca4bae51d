"""Gemma in TTNN, for the prefix and for the action expert. Compare `reference/gemma.py`.

The rows of a batch lie one after the other in one sequence, [1, 1, batch * tokens, width]: each has its own positions
in the rotary tables, and the mask keeps them apart.
"""

from __future__ import annotations

import ttnn

from pi0_ttnn_core.configs import GemmaConfig
from pi0_ttnn_core.tt.common import KV, NORM_CONFIG, Rotary, Tensor, attention_config
from pi0_ttnn_core.tt.weights import Weights, concatenated

RMS_NORM_EPS = 1e-6


class GemmaRMSNormTTNN:
    """RMSNorm with a learned weight; what is stored is 1 + weight."""

    def __init__(self, weights: Weights) -> None:
        self.weight = weights.vector(1.0 + weights.tensor("weight"))

    def __call__(self, hidden: Tensor, step: int) -> tuple[Tensor, None]:
        normed = ttnn.rms_norm(hidden, epsilon=RMS_NORM_EPS, weight=self.weight, compute_kernel_config=NORM_CONFIG)
        return normed, None


class GemmaAdaptiveRMSNormTTNN:
    """RMSNorm of PI0.5's expert. The condition depends on the Euler step only, so its modulations are constants."""

    def __init__(self, weights: Weights, conditions: list) -> None:
        """Take the condition of each step, torch [width]."""
        dense, bias = weights.tensor("dense.weight"), weights.tensor("dense.bias")
        self.modulations = []
        for condition in conditions:
            scale, shift, gate = (dense @ condition + bias).chunk(3)
            self.modulations.append([weights.vector(values) for values in (1.0 + scale, shift, gate)])

    def __call__(self, hidden: Tensor, step: int) -> tuple[Tensor, Tensor]:
        scale, shift, gate = self.modulations[step]
        normed = ttnn.rms_norm(
            hidden, epsilon=RMS_NORM_EPS, weight=scale, bias=shift, compute_kernel_config=NORM_CONFIG
        )
        return normed, gate


def gated_residual(hidden: Tensor, branch: Tensor, gate: Tensor | None) -> Tensor:
    """Return hidden + gate * branch; without a gate, their sum."""
    return ttnn.add(hidden, branch) if gate is None else ttnn.addcmul(hidden, branch, gate)


class GemmaRotaryEmbeddingTTNN:
    """Rotary position embedding in the halves layout; the tables are uploaded with the inputs."""

    @staticmethod
    def rotate(x: Tensor, rotary: Rotary) -> Tensor:
        """Rotate x [1, heads, tokens, head_dim]."""
        return ttnn.experimental.rotary_embedding(x, *rotary, compute_kernel_config=NORM_CONFIG)


class GemmaAttentionTTNN:
    """Grouped-query attention with an additive mask."""

    def __init__(self, config: GemmaConfig, weights: Weights) -> None:
        self.gemma = config
        self.config = attention_config(weights.part)
        names = ("q_proj", "k_proj", "v_proj")
        self.qkv_proj = weights.linear_of(concatenated([weights.tensor(f"{name}.weight") for name in names]), None)
        self.o_proj = weights.linear("o_proj", bias=False)

    def heads(self, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, KV]:
        """Return queries, and keys and values, of `hidden`, after the rotary embedding."""
        q, k, v = ttnn.experimental.nlp_create_qkv_heads(
            self.qkv_proj(hidden),
            num_heads=self.gemma.num_heads,
            num_kv_heads=self.gemma.num_kv_heads,
            transpose_k_heads=False,
        )
        rotate = GemmaRotaryEmbeddingTTNN.rotate
        return rotate(q, rotary), (rotate(k, rotary), v)

    def attend(self, query: Tensor, kv: KV, mask: Tensor) -> Tensor:
        """Let queries attend to `kv` under the mask [1, 1, queries, keys]."""
        attended = ttnn.transformer.scaled_dot_product_attention(
            query,
            *kv,
            attn_mask=mask,
            is_causal=False,
            scale=self.gemma.head_dim**-0.5,
            compute_kernel_config=self.config,
        )
        return self.o_proj(ttnn.experimental.nlp_concat_heads(attended))


class GemmaMLPTTNN:
    """GeGLU with tanh-GELU."""

    def __init__(self, weights: Weights) -> None:
        self.gate_proj = weights.linear("gate_proj", activation="gelu_approx", bias=False)
        self.up_proj = weights.linear("up_proj", bias=False)
        self.down_proj = weights.linear("down_proj", bias=False)

    def __call__(self, hidden: Tensor) -> Tensor:
        return self.down_proj(ttnn.mul(self.gate_proj(hidden), self.up_proj(hidden)))


class GemmaDecoderBlockTTNN:
    """One pre-norm decoder block, with adaptive norms in PI0.5's expert."""

    def __init__(self, config: GemmaConfig, weights: Weights, conditions: list | None = None) -> None:
        self.input_layernorm = gemma_norm(weights.of("input_layernorm"), conditions)
        self.self_attn = GemmaAttentionTTNN(config, weights.of("self_attn"))
        self.post_attention_layernorm = gemma_norm(weights.of("post_attention_layernorm"), conditions)
        self.mlp = GemmaMLPTTNN(weights.of("mlp"))

    def key_value(self, hidden: Tensor, rotary: Rotary) -> KV:
        normed, _ = self.input_layernorm(hidden, 0)
        _, kv = self.self_attn.heads(normed, rotary)
        return kv

    def __call__(
        self, hidden: Tensor, rotary: Rotary, mask: Tensor, past: KV | None = None, step: int = 0
    ) -> tuple[Tensor, KV]:
        """Return the block's output and its own keys and values.

        `past` is attended to as well, before the own; `step` is the Euler step that adaptive norms depend on.
        """
        normed, gate = self.input_layernorm(hidden, step)
        query, own = self.self_attn.heads(normed, rotary)
        kv = own if past is None else (ttnn.concat([past[0], own[0]], dim=2), ttnn.concat([past[1], own[1]], dim=2))
        hidden = gated_residual(hidden, self.self_attn.attend(query, kv, mask), gate)
        normed, gate = self.post_attention_layernorm(hidden, step)
        return gated_residual(hidden, self.mlp(normed), gate), own


class GemmaModelTTNN:
    """A stack of decoder blocks with a final norm."""

    def __init__(self, config: GemmaConfig, weights: Weights, conditions: list | None = None) -> None:
        self.layers = [
            GemmaDecoderBlockTTNN(config, weights.of(f"layers.{layer}"), conditions) for layer in range(config.depth)
        ]
        self.norm = gemma_norm(weights.of("norm"), conditions)

    def prefill(self, hidden: Tensor, rotary: Rotary, mask: Tensor) -> list[KV]:
        """Return the KV cache of `hidden`. Of the last layer only keys and values are computed."""
        cache = []
        for layer in self.layers[:-1]:
            hidden, kv = layer(hidden, rotary, mask)
            cache.append(kv)
        return [*cache, self.layers[-1].key_value(hidden, rotary)]

    def __call__(self, hidden: Tensor, rotary: Rotary, mask: Tensor, cache: list[KV], step: int) -> Tensor:
        """Return the normed output for `hidden`, which attends to `cache` and to itself."""
        for layer, past in zip(self.layers, cache, strict=True):
            hidden, _ = layer(hidden, rotary, mask, past, step)
        normed, _ = self.norm(hidden, step)
        return normed


def gemma_norm(weights: Weights, conditions: list | None) -> GemmaRMSNormTTNN | GemmaAdaptiveRMSNormTTNN:
    return GemmaRMSNormTTNN(weights) if conditions is None else GemmaAdaptiveRMSNormTTNN(weights, conditions)
