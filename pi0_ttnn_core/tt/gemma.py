"""Gemma's decoder in TTNN, as the prefix has it. Compare `reference/gemma.py`; `expert.py` has the action expert's.

The rows of a batch lie one after the other in one sequence, [1, 1, batch * tokens, width]: each has its own positions
in the rotary tables, and the mask keeps them apart.
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
    """RMSNorm with a learned weight; what is stored is 1 + weight."""

    def __init__(self, weights: Weights) -> None:
        self.weight = weights.vector("weight", lambda: 1.0 + weights.tensor("weight"))

    def __call__(self, hidden: Tensor, step: int = 0) -> Tensor:
        return ttnn.rms_norm(hidden, epsilon=RMS_NORM_EPS, weight=self.weight, compute_kernel_config=EXACT)


class GemmaAdaptiveRMSNormTTNN:
    """RMSNorm of PI0.5's expert: x / rms(x) * scale + shift, with scale and shift of each Euler step."""

    def __init__(self, weights: Weights, conditions: list[TorchTensor]) -> None:
        """Take the condition of each step, torch [width]."""
        modulations, steps = Modulations(weights, conditions), range(len(conditions))
        self.scales = [weights.vector(f"scale.{step}", partial(modulations.scale, step)) for step in steps]
        self.shifts = [weights.vector(f"shift.{step}", partial(modulations.shift, step)) for step in steps]

    def __call__(self, hidden: Tensor, step: int) -> Tensor:
        return ttnn.rms_norm(
            hidden,
            epsilon=RMS_NORM_EPS,
            weight=self.scales[step],
            bias=self.shifts[step],
            compute_kernel_config=EXACT,
        )


class GemmaRotaryEmbeddingTTNN:
    """Rotary position embedding in the halves layout; the tables are uploaded with the inputs."""

    @staticmethod
    def rotate(x: Tensor, rotary: Rotary) -> Tensor:
        """Rotate x [1, heads, tokens, head_dim]."""
        return ttnn.experimental.rotary_embedding(x, *rotary, compute_kernel_config=EXACT)


class GemmaAttentionTTNN:
    """Grouped-query attention with an additive mask."""

    def __init__(self, config: GemmaConfig, weights: Weights) -> None:
        self.gemma = config
        self.config = kernel_config(weights.part.attention)
        # The scale of the logits is folded into the queries.
        self.qkv_proj = weights.linear_of("qkv_proj", lambda: qkv_weight(weights, config))
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

    def __call__(self, hidden: Tensor, rotary: Rotary, mask: Tensor) -> tuple[Tensor, KV]:
        """Let `hidden` attend to itself under the mask [1, 1, queries, keys]; return its keys and values, too."""
        query, kv = self.heads(hidden, rotary)
        attended = attend(query, kv, self.config, scale=1.0, mask=mask)
        return self.o_proj(ttnn.experimental.nlp_concat_heads(attended)), kv


class GemmaMLPTTNN:
    """GeGLU with tanh-GELU, in two halves of its width: at full size the whole would not stay in L1."""

    def __init__(self, weights: Weights) -> None:
        def half_of(name: str, half: int, activation: ttnn.UnaryWithParam | None = None) -> Linear:
            return weights.linear_of(
                f"{name}_proj.{half}", lambda: _halves(weights.tensor(f"{name}_proj.weight"))[half], None, activation
            )

        self.gate_up_proj = [(half_of("gate", half, GELU_TANH), half_of("up", half)) for half in range(2)]
        self.down_proj = weights.linear_of(
            "down_proj", lambda: torch.cat(_halves(weights.tensor("down_proj.weight").T)).T
        )

    def __call__(self, hidden: Tensor) -> Tensor:
        return self.down_proj([_gated(gate_proj(hidden), up_proj(hidden)) for gate_proj, up_proj in self.gate_up_proj])


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    return ttnn.mul(gate, up, output_tensor=gate)


def _halves(weight: TorchTensor) -> tuple[TorchTensor, ...]:
    """Return the two halves of the rows, with zeros to whole tiles."""
    return pad_rows(weight, 2 * TILE).chunk(2)


class GemmaDecoderBlockTTNN:
    """One pre-norm decoder block of the prefix, which writes its keys and values into the cache."""

    def __init__(self, config: GemmaConfig, weights: Weights) -> None:
        self.input_layernorm = GemmaRMSNormTTNN(weights.of("input_layernorm"))
        self.self_attn = GemmaAttentionTTNN(config, weights.of("self_attn"))
        self.post_attention_layernorm = GemmaRMSNormTTNN(weights.of("post_attention_layernorm"))
        self.mlp = GemmaMLPTTNN(weights.of("mlp"))

    def key_value(self, hidden: Tensor, rotary: Rotary) -> KV:
        _, kv = self.self_attn.heads(self.input_layernorm(hidden), rotary)
        return kv

    def __call__(self, hidden: Tensor, rotary: Rotary, mask: Tensor) -> tuple[Tensor, KV]:
        """Return the block's output, in the memory of `hidden`, and its own keys and values."""
        attended, kv = self.self_attn(self.input_layernorm(hidden), rotary, mask)
        hidden = add_to(hidden, attended)
        del attended
        return add_to(hidden, self.mlp(self.post_attention_layernorm(hidden))), kv


class GemmaPrefixTTNN:
    """The prefix's stack of decoder blocks. Its final norm is left out: nothing uses it."""

    def __init__(self, config: GemmaConfig, weights: Weights) -> None:
        self.layers = [GemmaDecoderBlockTTNN(config, weights.of(f"layers.{layer}")) for layer in range(config.depth)]

    def prefill(self, hidden: Tensor, rotary: Rotary, mask: Tensor, cache: list[KV]) -> None:
        """Fill the first rows of the cache with the keys and values of `hidden`.

        Of the last layer only keys and values are computed.
        """
        for layer, kept in zip(self.layers[:-1], cache, strict=False):
            hidden, kv = layer(hidden, rotary, mask)
            _fill(kept, kv)
        _fill(cache[-1], self.layers[-1].key_value(hidden, rotary))


def _fill(cache: KV, kv: KV) -> None:
    for kept, new in zip(cache, kv, strict=True):
        ttnn.fill_cache(kept, new, 0)
