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
from pi0_ttnn_core.validation.harness import Harness, Module, download, normal


@dataclass(frozen=True)
class GemmaCase:
    """Rows of the prefix or of the expert, and what they attend to.

    hidden: [rows, width]
    valid: bool [rows], false for padding, which is not compared
    past: what is attended to before the own keys and values, [1, kv_heads, prefix, head_dim]
    place: where the device has each row, [rows], among its `length` rows
    """

    harness: Harness
    part: str
    config: GemmaConfig
    hidden: Tensor
    valid: Tensor
    rotary: gemma.Rotary
    mask: Tensor
    past: gemma.KV | None
    place: Tensor
    length: int
    device_rotary: tuple[ttnn.Tensor, ttnn.Tensor]
    device_mask: ttnn.Tensor

    @property
    def adaptive(self) -> bool:
        return self.part == "expert" and self.harness.config.pi05

    @property
    def condition(self) -> Tensor | None:
        return self.harness.condition if self.adaptive else None

    @property
    def conditions(self) -> list[Tensor] | None:
        """The condition as the device's norms take it, for step 0."""
        return None if self.condition is None else [self.condition[0]]

    def weights(self, name: str) -> Weights:
        return self.harness.weights(self.part, f"{self.part}.layers.0{name}")

    def reference(self, build: Callable[[], Module], name: str) -> Module:
        return self.harness.reference(build, f"{self.part}.layers.0{name}.")

    def upload(self, rows: Tensor) -> ttnn.Tensor:
        """Return [..., rows, width] in the device's rows."""
        return self.harness.upload(_placed(rows, self.place, self.length))

    @property
    def reference_block(self) -> gemma.GemmaDecoderBlockTorch:
        return self.reference(lambda: gemma.GemmaDecoderBlockTorch(self.config, self.adaptive), "")

    @property
    def device_block(self) -> ExpertDecoderBlockTTNN:
        return ExpertDecoderBlockTTNN(self.config, self.weights(""), self.conditions)

    @property
    def device_cache(self) -> tuple[ttnn.Tensor, ttnn.Tensor]:
        """The prefix's keys and values, and rows for the expert's own."""
        assert self.past is not None
        rows = prefix_length(self.harness.config) + self.length
        key, value = (_placed(x[0], torch.arange(x.shape[2]), rows) for x in self.past)
        return self.harness.upload(key), self.harness.upload(value)

    def pair(self, expected: Tensor, actual: ttnn.Tensor, base: Tensor | None = None) -> Pair:
        """Compare results for the valid rows, [1, ..., rows, width] both."""
        rows = download(actual)[0][..., self.place, :]
        expected = expected[0]
        return Pair(
            expected[..., self.valid, :],
            rows.reshape(expected.shape)[..., self.valid, :],
            None if base is None else base[self.valid],
        )


def _placed(rows: Tensor, place: Tensor, length: int) -> Tensor:
    placed = torch.zeros(*rows.shape[:-2], length, rows.shape[-1])
    placed[..., place, :] = rows
    return placed


def prefix_case(harness: Harness) -> GemmaCase:
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
        place=torch.arange(length),
        length=prefix_length(config),
        device_rotary=(inputs.prefix_cos, inputs.prefix_sin),
        device_mask=inputs.prefix_mask,
    )


def expert_case(harness: Harness) -> GemmaCase:
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
        # The device has the state token after the actions.
        place=torch.cat([horizon + torch.arange(state_tokens), torch.arange(horizon)]),
        length=suffix_length(config),
        device_rotary=(inputs.suffix_cos, inputs.suffix_sin),
        device_mask=inputs.suffix_mask,
    )


GemmaComponent = Callable[[GemmaCase], Pair]


def prefix_rms_norm(case: GemmaCase) -> Pair:
    # As large as a residual stream becomes.
    hidden, width, name = 8.0 * case.hidden, case.config.width, ".input_layernorm"
    expected, _ = case.reference(lambda: gemma.GemmaRMSNormTorch(width), name)(hidden[None])
    return case.pair(expected, GemmaRMSNormTTNN(case.weights(name))(case.upload(hidden)))


def prefix_rope(case: GemmaCase) -> Pair:
    heads = normal(case.config.num_heads, len(case.hidden), case.config.head_dim)
    expected = gemma.GemmaRotaryEmbeddingTorch.rotate(heads[None], case.rotary)
    return case.pair(expected, GemmaRotaryEmbeddingTTNN.rotate(case.upload(heads), case.device_rotary))


def prefix_attention(case: GemmaCase) -> Pair:
    reference = case.reference(lambda: gemma.GemmaAttentionTorch(case.config), ".self_attn")
    hidden = case.hidden[None]
    expected = reference.attend(hidden, reference.key_value(hidden, case.rotary), case.rotary, case.mask)
    device = GemmaAttentionTTNN(case.config, case.weights(".self_attn"))
    actual, _ = device(case.upload(case.hidden), case.device_rotary, case.device_mask)
    return case.pair(expected, actual)


def prefix_mlp(case: GemmaCase) -> Pair:
    expected = case.reference(lambda: gemma.GemmaMLPTorch(case.config), ".mlp")(case.hidden[None])
    return case.pair(expected, GemmaMLPTTNN(case.weights(".mlp"))(case.upload(case.hidden)))


def prefix_block(case: GemmaCase) -> Pair:
    expected, _ = case.reference_block(case.hidden[None], case.rotary, case.mask)
    device = GemmaDecoderBlockTTNN(case.config, case.weights(""))
    actual, _ = device(case.upload(case.hidden), case.device_rotary, case.device_mask)
    return case.pair(expected, actual, case.hidden)


def expert_rms_norm(case: GemmaCase) -> Pair:
    """Compare the final norm: the others are part of the product after them."""
    hidden, width = 8.0 * case.hidden, case.config.width
    norm = gemma.GemmaAdaptiveRMSNormTorch if case.adaptive else gemma.GemmaRMSNormTorch
    expected, _ = case.harness.reference(lambda: norm(width), "expert.norm.")(hidden[None], case.condition)
    weights, conditions = case.harness.weights("expert", "expert.norm"), case.conditions
    device = GemmaRMSNormTTNN(weights) if conditions is None else GemmaAdaptiveRMSNormTTNN(weights, conditions)
    return case.pair(expected, device(case.upload(hidden), 0))


def expert_rope(case: GemmaCase) -> Pair:
    """Compare the keys that attention leaves in the cache."""
    _, (expected, _) = _reference_attention(case)
    cache = case.device_cache
    case.device_block.attention(case.upload(case.hidden), case.device_rotary, case.device_mask, cache, 0)
    own = ttnn.slice(cache[0], [0, 0, cache[0].shape[2] - case.length, 0], list(cache[0].shape))
    return case.pair(expected, own)


def expert_attention(case: GemmaCase) -> Pair:
    expected, _ = _reference_attention(case)
    actual = case.device_block.attention(
        case.upload(case.hidden), case.device_rotary, case.device_mask, case.device_cache, 0
    )
    return case.pair(expected, actual, case.hidden)


def _reference_attention(case: GemmaCase) -> tuple[Tensor, gemma.KV]:
    """Return hidden + gate * attention(norm(hidden)), and the own keys and values."""
    block, hidden, past = case.reference_block, case.hidden[None], case.past
    normed, gate = block.input_layernorm(hidden, case.condition)
    own = block.self_attn.key_value(normed, case.rotary)
    kv = own if past is None else (torch.cat([past[0], own[0]], dim=2), torch.cat([past[1], own[1]], dim=2))
    attended = block.self_attn.attend(normed, kv, case.rotary, case.mask)
    return gemma.gated_residual(hidden, attended, gate), own


def expert_mlp(case: GemmaCase) -> Pair:
    """Compare hidden + gate * mlp(norm(hidden)): the device has it in one."""
    block, hidden = case.reference_block, case.hidden[None]
    normed, gate = block.post_attention_layernorm(hidden, case.condition)
    expected = gemma.gated_residual(hidden, block.mlp(normed), gate)
    return case.pair(expected, case.device_block.mlp(case.upload(case.hidden), 0), case.hidden)


def expert_block(case: GemmaCase) -> Pair:
    expected, _ = case.reference_block(case.hidden[None], case.rotary, case.mask, case.past, case.condition)
    actual = case.device_block(case.upload(case.hidden), case.device_rotary, case.device_mask, case.device_cache, 0)
    return case.pair(expected, actual, case.hidden)


def expert_block_vjp(case: GemmaCase) -> Pair:
    """Compare the gradient of a block's input, given a random one of its output."""
    grad = normal(1 + len(case.hidden), case.config.width)[1:]
    block = case.reference_block
    with torch.enable_grad():
        hidden = case.hidden[None].requires_grad_()
        out, _ = block(hidden, case.rotary, case.mask, case.past, case.condition)
        (expected,) = torch.autograd.grad(out, hidden, grad[None])
    (cos, sin), upload = case.device_rotary, case.upload
    suffix = Suffix((cos, sin), (cos, ttnn.neg(sin)), case.device_mask, ttnn.L1_MEMORY_CONFIG, 0)
    _, pull = block_vjp(case.device_block, upload(case.hidden.detach()), suffix, case.device_cache)
    return case.pair(expected, pull(upload(grad)), grad)
