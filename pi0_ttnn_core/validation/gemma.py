"""The components of the two Gemma stacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import ttnn
from torch import Tensor

from pi0_ttnn_core import masks
from pi0_ttnn_core.configs import GemmaConfig
from pi0_ttnn_core.reference import gemma
from pi0_ttnn_core.tt.expert import ExpertDecoderBlockTTNN
from pi0_ttnn_core.tt.gemma import (
    GemmaAdaptiveRMSNormTTNN,
    GemmaAttentionTTNN,
    GemmaDecoderBlockTTNN,
    GemmaMLPTTNN,
    GemmaRMSNormTTNN,
    GemmaRotaryEmbeddingTTNN,
)
from pi0_ttnn_core.tt.geometry import prefix_length, suffix_length
from pi0_ttnn_core.tt.vjp import Suffix, block_vjp
from pi0_ttnn_core.tt.weights.conversion import Weights
from pi0_ttnn_core.validation.comparison import Pair
from pi0_ttnn_core.validation.harness import Harness, Module, download, normal, scatter_rows


@dataclass(frozen=True)
class GemmaCase:
    """Rows of the prefix or of the expert, and what they attend to, on both sides.

    Attributes:
        harness: builds the components.
        part: "prefix" or "expert".
        config: sizes of the part.
        hidden: [rows, width].
        valid: bool [rows]. False for padding, which is not compared.
        rotary: the reference's tables.
        mask: the reference's additive mask.
        past: [1, kv_heads, prefix, head_dim] both. Keys and values before the part's own.
        row_indices: int64 [rows]. Index of each row on the device.
        length: number of rows on the device.
        device_rotary: the device's tables.
        device_mask: the device's additive mask.
    """

    harness: Harness
    part: str
    config: GemmaConfig
    hidden: Tensor
    valid: Tensor
    rotary: gemma.Rotary
    mask: Tensor
    past: gemma.KV | None
    row_indices: Tensor
    length: int
    device_rotary: tuple[ttnn.Tensor, ttnn.Tensor]
    device_mask: ttnn.Tensor

    @property
    def adaptive(self) -> bool:
        """Whether the norms are adaptive."""
        return self.part == "expert" and self.harness.config.pi05

    @property
    def condition(self) -> Tensor | None:
        """The condition of adaptive norms, [1, width]."""
        return self.harness.condition if self.adaptive else None

    @property
    def conditions(self) -> list[Tensor] | None:
        """The same condition for the device, whose only Euler step here is step 0."""
        return None if self.condition is None else [self.condition[0]]

    def weights(self, name: str) -> Weights:
        """Return the first layer's weights whose names start with `name`."""
        return self.harness.weights(self.part, f"{self.part}.layers.0{name}")

    def reference(self, build: Callable[[], Module], name: str) -> Module:
        """Return a part of the reference's first layer with its weights."""
        return self.harness.reference(build, f"{self.part}.layers.0{name}.")

    def upload(self, rows: Tensor) -> ttnn.Tensor:
        """Return [..., rows, width] on the device, in the device's rows."""
        return self.harness.upload(scatter_rows(rows, self.row_indices, self.length))

    @property
    def reference_block(self) -> gemma.GemmaDecoderBlockTorch:
        """The reference's first block."""
        return self.reference(lambda: gemma.GemmaDecoderBlockTorch(self.config, self.adaptive), "")

    @property
    def device_block(self) -> ExpertDecoderBlockTTNN:
        """The device's first block of the expert."""
        return ExpertDecoderBlockTTNN(self.config, self.weights(""), self.conditions)

    @property
    def device_cache(self) -> tuple[ttnn.Tensor, ttnn.Tensor]:
        """The prefix's keys and values on the device, and rows for the expert's own."""
        assert self.past is not None
        rows = prefix_length(self.harness.config) + self.length
        key, value = (scatter_rows(x[0], torch.arange(x.shape[2]), rows) for x in self.past)
        return self.harness.upload(key), self.harness.upload(value)

    def pair(self, expected: Tensor, actual: ttnn.Tensor, base: Tensor | None = None) -> Pair:
        """Return the valid rows of two results, [1, ..., rows, width] both."""
        rows = download(actual)[0][..., self.row_indices, :]
        expected = expected[0]
        return Pair(
            expected[..., self.valid, :],
            rows.reshape(expected.shape)[..., self.valid, :],
            None if base is None else base[self.valid],
        )


def prefix_case(harness: Harness) -> GemmaCase:
    """Return random rows of the prefix, which attend to each other."""
    config, inputs, pad_mask = harness.config, harness.device_inputs, harness.pad_mask
    length = pad_mask.shape[1]
    return GemmaCase(
        harness=harness,
        part="prefix",
        config=config.prefix,
        hidden=normal(length, config.prefix.width),
        valid=pad_mask[0],
        rotary=gemma.GemmaRotaryEmbeddingTorch(config.prefix.head_dim).tables(masks.prefix_positions(pad_mask)),
        mask=masks.prefix_attention(pad_mask),
        past=None,
        row_indices=torch.arange(length),
        length=prefix_length(config),
        device_rotary=(inputs.prefix_cos, inputs.prefix_sin),
        device_mask=inputs.prefix_mask,
    )


def expert_case(harness: Harness) -> GemmaCase:
    """Return random rows of the expert, which attend to a random prefix and to each other."""
    config, inputs, pad_mask = harness.config, harness.device_inputs, harness.pad_mask
    state_tokens, horizon, heads = config.num_state_tokens, config.action_horizon, config.expert
    length = state_tokens + horizon
    key, value = normal(2, 1, heads.num_kv_heads, pad_mask.shape[1], heads.head_dim)
    return GemmaCase(
        harness=harness,
        part="expert",
        config=config.expert,
        hidden=normal(length, config.expert.width),
        valid=torch.ones(length, dtype=torch.bool),
        rotary=gemma.GemmaRotaryEmbeddingTorch(heads.head_dim).tables(masks.suffix_positions(pad_mask, length)),
        mask=masks.suffix_attention(pad_mask, state_tokens, horizon),
        past=(key, value),
        # On the device, the state token comes after the actions.
        row_indices=torch.cat([horizon + torch.arange(state_tokens), torch.arange(horizon)]),
        length=suffix_length(config),
        device_rotary=(inputs.suffix_cos, inputs.suffix_sin),
        device_mask=inputs.suffix_mask,
    )


GemmaComponent = Callable[[GemmaCase], Pair]


def prefix_rms_norm(case: GemmaCase) -> Pair:
    """Compare the norm before attention, of values as large as in a residual stream."""
    hidden, width, name = 8.0 * case.hidden, case.config.width, ".input_layernorm"
    expected, _ = case.reference(lambda: gemma.GemmaRMSNormTorch(width), name)(hidden[None])
    return case.pair(expected, GemmaRMSNormTTNN(case.weights(name))(case.upload(hidden)))


def prefix_rope(case: GemmaCase) -> Pair:
    """Compare the rotary embedding of random heads."""
    heads = normal(case.config.num_heads, len(case.hidden), case.config.head_dim)
    expected = gemma.GemmaRotaryEmbeddingTorch.rotate(heads[None], case.rotary)
    return case.pair(expected, GemmaRotaryEmbeddingTTNN.rotate(case.upload(heads), case.device_rotary))


def prefix_attention(case: GemmaCase) -> Pair:
    """Compare self-attention."""
    reference = case.reference(lambda: gemma.GemmaAttentionTorch(case.config), ".self_attn")
    hidden = case.hidden[None]
    expected = reference.attend(hidden, reference.key_value(hidden, case.rotary), case.rotary, case.mask)
    device = GemmaAttentionTTNN(case.config, case.weights(".self_attn"))
    actual, _ = device(case.upload(case.hidden), case.device_rotary, case.device_mask)
    return case.pair(expected, actual)


def prefix_mlp(case: GemmaCase) -> Pair:
    """Compare the MLP."""
    expected = case.reference(lambda: gemma.GemmaMLPTorch(case.config), ".mlp")(case.hidden[None])
    return case.pair(expected, GemmaMLPTTNN(case.weights(".mlp"))(case.upload(case.hidden)))


def prefix_block(case: GemmaCase) -> Pair:
    """Compare a decoder block."""
    expected, _ = case.reference_block(case.hidden[None], case.rotary, case.mask)
    device = GemmaDecoderBlockTTNN(case.config, case.weights(""))
    actual, _ = device(case.upload(case.hidden), case.device_rotary, case.device_mask)
    return case.pair(expected, actual, case.hidden)


def expert_rms_norm(case: GemmaCase) -> Pair:
    """Compare the final norm: the others are fused into the products after them."""
    hidden, width = 8.0 * case.hidden, case.config.width
    norm = gemma.GemmaAdaptiveRMSNormTorch if case.adaptive else gemma.GemmaRMSNormTorch
    expected, _ = case.harness.reference(lambda: norm(width), "expert.norm.")(hidden[None], case.condition)
    weights, conditions = case.harness.weights("expert", "expert.norm"), case.conditions
    device = GemmaRMSNormTTNN(weights) if conditions is None else GemmaAdaptiveRMSNormTTNN(weights, conditions)
    return case.pair(expected, device(case.upload(hidden), 0))


def expert_rope(case: GemmaCase) -> Pair:
    """Compare the keys that attention writes into the cache."""
    _, (expected, _) = _reference_attention(case)
    cache = case.device_cache
    case.device_block.attention(case.upload(case.hidden), case.device_rotary, case.device_mask, cache, 0)
    own = ttnn.slice(cache[0], [0, 0, cache[0].shape[2] - case.length, 0], list(cache[0].shape))
    return case.pair(expected, own)


def expert_attention(case: GemmaCase) -> Pair:
    """Compare hidden + gate * attention(norm(hidden)), which the device fuses."""
    expected, _ = _reference_attention(case)
    actual = case.device_block.attention(
        case.upload(case.hidden), case.device_rotary, case.device_mask, case.device_cache, 0
    )
    return case.pair(expected, actual, case.hidden)


def _reference_attention(case: GemmaCase) -> tuple[Tensor, gemma.KV]:
    """Return hidden + gate * attention(norm(hidden)), and the expert's own keys and values."""
    block, hidden = case.reference_block, case.hidden[None]
    normed, gate = block.input_layernorm(hidden, case.condition)
    own = block.self_attn.key_value(normed, case.rotary)
    attended = block.self_attn.attend(normed, gemma.append_kv(case.past, own), case.rotary, case.mask)
    return gemma.gated_residual(hidden, attended, gate), own


def expert_mlp(case: GemmaCase) -> Pair:
    """Compare hidden + gate * mlp(norm(hidden)), which the device fuses."""
    block, hidden = case.reference_block, case.hidden[None]
    normed, gate = block.post_attention_layernorm(hidden, case.condition)
    expected = gemma.gated_residual(hidden, block.mlp(normed), gate)
    return case.pair(expected, case.device_block.mlp(case.upload(case.hidden), 0), case.hidden)


def expert_block(case: GemmaCase) -> Pair:
    """Compare a decoder block."""
    expected, _ = case.reference_block(case.hidden[None], case.rotary, case.mask, case.past, case.condition)
    actual = case.device_block(case.upload(case.hidden), case.device_rotary, case.device_mask, case.device_cache, 0)
    return case.pair(expected, actual, case.hidden)


def expert_block_vjp(case: GemmaCase) -> Pair:
    """Compare the gradient of a block's input, given a random gradient of its output."""
    grad = normal(1 + len(case.hidden), case.config.width)[1:]
    block = case.reference_block
    with torch.enable_grad():
        hidden = case.hidden[None].requires_grad_()
        out, _ = block(hidden, case.rotary, case.mask, case.past, case.condition)
        (expected,) = torch.autograd.grad(out, hidden, grad[None])
    (cos, sin), upload = case.device_rotary, case.upload
    suffix = Suffix((cos, sin), (cos, ttnn.neg(sin)), case.device_mask, ttnn.L1_MEMORY_CONFIG, 0)
    _, vjp = block_vjp(case.device_block, upload(case.hidden.detach()), suffix, case.device_cache)
    return case.pair(expected, vjp(upload(grad)), grad)
