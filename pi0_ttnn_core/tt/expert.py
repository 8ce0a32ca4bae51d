"""The action expert in TTNN: Gemma's decoder, each product fused with its neighbours, see `kernels/expert_linear.py`.

Compare `reference/gemma.py`, where the expert is the same decoder as the prefix. Rows are laid out as in `gemma.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from torch import Tensor as TorchTensor

from pi0_ttnn_core.configs import GemmaConfig
from pi0_ttnn_core.tt.common import KV, Rotary, Tensor, attend, kernel_config
from pi0_ttnn_core.tt.gemma import GemmaAdaptiveRMSNormTTNN, GemmaRMSNormTTNN
from pi0_ttnn_core.tt.kernels.expert_linear import Modulation
from pi0_ttnn_core.tt.weights.conversion import Weights, gate_up_weight, qkv_weight
from pi0_ttnn_core.tt.weights.modulation import Modulations

# The condition of adaptive norms at each Euler step, float32 [width]; None for PI0, which has no adaptive norms.
Conditions = list[TorchTensor] | None


class NormedLinear:
    """A norm and the product after it. PI0's norm is folded into the weight; PI0.5's is modulated at each step."""

    def __init__(
        self, name: str, weights: Weights, norm: Weights, weight: Callable[[], TorchTensor], conditions: Conditions
    ) -> None:
        if conditions is None:
            self.linear = weights.expert_linear(name, lambda: weight() * (1.0 + norm.tensor("weight")))
            self.modulations: list[Modulation | None] = []
            self.gates: list[Tensor | None] = []
            return
        # Read and concatenated once, not at every step.
        weight = cache(weight)
        modulations = Modulations(norm, conditions)
        self.linear = weights.expert_linear(name, weight)
        self.modulations = [
            Modulation(
                norm.rows(f"scale.{step}", partial(modulations.scale, step)),
                weights.rows(f"{name}.bias.{step}", partial(_bias, weight, modulations, step)),
            )
            for step in range(len(conditions))
        ]
        self.gates = [norm.rows(f"gate.{step}", partial(modulations.gate, step)) for step in range(len(conditions))]

    def modulation(self, step: int) -> tuple[Modulation | None, Tensor | None]:
        """Return the modulation of the norm at Euler step `step`, and the gate of the branch that begins here."""
        return (self.modulations[step], self.gates[step]) if self.modulations else (None, None)


def _bias(weight: Callable[[], TorchTensor], modulations: Modulations, step: int) -> TorchTensor:
    return weight() @ modulations.shift(step)


class ExpertDecoderBlockTTNN:
    """One pre-norm decoder block of the action expert, in five operations."""

    def __init__(self, config: GemmaConfig, weights: Weights, conditions: Conditions) -> None:
        attention, mlp = weights.child("self_attn"), weights.child("mlp")
        self.config = kernel_config(weights.precision.attention)
        self.qkv_proj = NormedLinear(
            "qkv_proj", attention, weights.child("input_layernorm"), lambda: qkv_weight(attention, config), conditions
        )
        self.o_proj = attention.expert_linear("o_proj", lambda: attention.tensor("o_proj.weight"))
        self.gate_up_proj = NormedLinear(
            "gate_up_proj", mlp, weights.child("post_attention_layernorm"), lambda: gate_up_weight(mlp), conditions
        )
        self.down_proj = mlp.expert_linear("down_proj", lambda: mlp.tensor("down_proj.weight"))

    def query(self, hidden: Tensor, rotary: Rotary, cache: KV, step: int) -> Tensor:
        """Return the queries of `hidden`; write its keys and values into the last rows of the cache."""
        modulation, _ = self.qkv_proj.modulation(step)
        return self.qkv_proj.linear.rotary(hidden, rotary, cache, modulation)

    def attend(self, query: Tensor, hidden: Tensor, mask: Tensor, cache: KV, step: int) -> Tensor:
        """Return hidden + gate * attention, given the queries of `hidden`."""
        _, gate = self.qkv_proj.modulation(step)
        return self.o_proj.residual(attend(query, cache, self.config, scale=1.0, mask=mask), hidden, gate)

    def attention(self, hidden: Tensor, rotary: Rotary, mask: Tensor, cache: KV, step: int) -> Tensor:
        """Return hidden + gate * attention; write the keys and values of `hidden` into the last rows of the cache."""
        return self.attend(self.query(hidden, rotary, cache, step), hidden, mask, cache, step)

    def mlp(self, hidden: Tensor, step: int) -> Tensor:
        """Return hidden + gate * MLP."""
        modulation, gate = self.gate_up_proj.modulation(step)
        return self.down_proj.residual(self.gate_up_proj.linear.geglu(hidden, modulation), hidden, gate)

    def __call__(self, hidden: Tensor, rotary: Rotary, mask: Tensor, cache: KV, step: int) -> Tensor:
        """Return the block's output for `hidden` [1, 1, rows, width] at Euler step `step`."""
        return self.mlp(self.attention(hidden, rotary, mask, cache, step), step)


class GemmaExpertTTNN:
    """The expert's stack of decoder blocks, with a final norm."""

    def __init__(self, config: GemmaConfig, weights: Weights, conditions: Conditions) -> None:
        self.layers = [
            ExpertDecoderBlockTTNN(config, weights.child(f"layers.{layer}"), conditions)
            for layer in range(config.depth)
        ]
        norm = weights.child("norm")
        self.norm: GemmaRMSNormTTNN | GemmaAdaptiveRMSNormTTNN = (
            GemmaRMSNormTTNN(norm) if conditions is None else GemmaAdaptiveRMSNormTTNN(norm, conditions)
        )

    def __call__(self, hidden: Tensor, rotary: Rotary, mask: Tensor, cache: list[KV], step: int) -> Tensor:
        """Return the normed output [1, 1, rows, width] of `hidden`, which attends to `cache` and itself."""
        for layer, kv in zip(self.layers, cache, strict=True):
            hidden = layer(hidden, rotary, mask, kv, step)
        return self.norm(hidden, step)
