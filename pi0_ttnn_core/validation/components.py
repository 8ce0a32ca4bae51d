"""The components of the model, each called in the reference and on the device with the same weights and inputs.

The one place that knows how a component of `tt/` is called. Inputs are of the scale that they have in the model, and
such that bfloat16 holds them exactly: what differs is what the component does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
import ttnn
from torch import Tensor, nn

from pi0_ttnn_core import masks
from pi0_ttnn_core.action_prefix import ActionPrefix, prefix_weights
from pi0_ttnn_core.configs import GemmaConfig, PI0Config
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.reference import gemma, siglip
from pi0_ttnn_core.reference.model import PI0ModelTorch, PrefixTorch
from pi0_ttnn_core.reference.prefix import PrefixEmbeddingTorch
from pi0_ttnn_core.reference.suffix import SuffixEmbeddingTorch
from pi0_ttnn_core.tt.common import KV
from pi0_ttnn_core.tt.expert import ExpertDecoderBlockTTNN
from pi0_ttnn_core.tt.gemma import (
    GemmaAdaptiveRMSNormTTNN,
    GemmaAttentionTTNN,
    GemmaDecoderBlockTTNN,
    GemmaMLPTTNN,
    GemmaRMSNormTTNN,
    GemmaRotaryEmbeddingTTNN,
)
from pi0_ttnn_core.tt.inputs import host_inputs, prefix_length
from pi0_ttnn_core.tt.model import DeviceInputs, PI0ModelTTNN
from pi0_ttnn_core.tt.precision import Precision
from pi0_ttnn_core.tt.prefix import PrefixEmbeddingTTNN
from pi0_ttnn_core.tt.pullback import Suffix, block_pullback
from pi0_ttnn_core.tt.session import FORMATS
from pi0_ttnn_core.tt.siglip import SigLIPAttentionTTNN, SigLIPBlockTTNN, SigLIPMLPTTNN, SigLIPVisionTowerTTNN
from pi0_ttnn_core.tt.suffix import SuffixEmbeddingTTNN
from pi0_ttnn_core.tt.suffix_weights import suffix_length
from pi0_ttnn_core.tt.weights import Weights, WeightSource
from pi0_ttnn_core.validation import Pair

Module = TypeVar("Module", bound=nn.Module)

TOWER = "prefix_embedding.vision_tower"
# The Euler step at which what depends on the time is compared.
STEP = 3
PROMPT_TOKENS = 17


@dataclass(frozen=True)
class Bench:
    """What a component is built of. `read` returns a tensor by our full name."""

    config: PI0Config
    read: Callable[[str], Tensor]
    device: ttnn.MeshDevice
    precision: Precision

    def reference(self, build: Callable[[], Module], name: str) -> Module:
        """Build a part of the reference model, and read its weights, whose names start with `name`."""
        with torch.device("meta"):
            module = build()
        weights = {weight: self.read(f"{name}{weight}").float() for weight in module.state_dict()}
        module.load_state_dict(weights, assign=True)
        return module

    def weights(self, part: str, name: str = "") -> Weights:
        weights = Weights(WeightSource(self.read, self.device), getattr(self.precision, part))
        return weights.of(name) if name else weights

    def upload(self, values: Tensor) -> ttnn.Tensor:
        """Return [rows, width] on the device as [1, 1, rows, width]."""
        values = values.reshape(1, *[1] * (3 - values.dim()), *values.shape)
        return ttnn.from_torch(values, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=self.device)

    @cached_property
    def inputs(self) -> ModelInputs:
        """One observation: one camera is missing if there are several, the prompt does not fill its tokens."""
        config, random = self.config, np.random.default_rng(0)
        cameras, size = config.num_cameras, config.vision.image_size
        return ModelInputs(
            images=_exact(torch.from_numpy(random.uniform(-1, 1, (1, cameras, 3, size, size)))).numpy(),
            image_masks=np.arange(cameras)[None] != 1,
            tokens=random.integers(3, config.vocab_size, (1, config.num_tokens)).astype(np.int32),
            token_mask=np.arange(config.num_tokens)[None] < min(PROMPT_TOKENS, config.num_tokens),
            state=_exact(torch.from_numpy(random.standard_normal((1, config.action_dim)))).numpy(),
            noise=random.standard_normal((1, config.horizon, config.action_dim)).astype(np.float32),
        )

    @cached_property
    def device_inputs(self) -> DeviceInputs:
        return self.upload_inputs(None)

    def upload_inputs(self, prefix: ActionPrefix | None) -> DeviceInputs:
        tensors: dict[str, ttnn.Tensor | None] = {}
        for name, values in vars(host_inputs(self.inputs, self.config, prefix)).items():
            dtype, layout = FORMATS.get(name, (ttnn.bfloat16, ttnn.TILE_LAYOUT))
            tensors[name] = (
                None if values is None else ttnn.from_torch(values, dtype=dtype, layout=layout, device=self.device)
            )
        return DeviceInputs(**tensors)

    @property
    def pad_mask(self) -> Tensor:
        """Which prefix tokens are valid, bool [1, cameras * patches + tokens]."""
        image_masks, token_mask = torch.from_numpy(self.inputs.image_masks), torch.from_numpy(self.inputs.token_mask)
        return masks.prefix_pad_mask(image_masks, token_mask, self.config.vision.num_patches)

    @cached_property
    def models(self) -> tuple[PI0ModelTorch, PI0ModelTTNN]:
        """The whole model, in the reference and on the device."""
        source = WeightSource(self.read, self.device)
        reference = self.reference(lambda: PI0ModelTorch(self.config), "")
        return reference, PI0ModelTTNN(self.config, source, self.precision, self.config.num_steps)

    @property
    def time(self) -> Tensor:
        return torch.tensor([1.0 - STEP / self.config.num_steps])

    @cached_property
    def condition(self) -> Tensor | None:
        """Of the adaptive norms at step STEP, [1, width]: PI0.5's only."""
        if not self.config.pi05:
            return None
        suffix = self.reference(lambda: SuffixEmbeddingTorch(self.config), "suffix_embedding.")
        return suffix.condition(suffix.embed_timestep(self.time))


def _exact(values: Tensor) -> Tensor:
    """Return the nearest values that bfloat16 holds, as float32."""
    return values.bfloat16().float()


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    """Return random values that bfloat16 holds exactly, the same at every call."""
    random = np.random.default_rng([1, *shape])
    return _exact(torch.from_numpy(random.standard_normal(shape) * scale))


def download(tensor: ttnn.Tensor) -> Tensor:
    return ttnn.to_torch(tensor).float()


def _patch_embedding(bench: Bench) -> Pair:
    vision = replace(bench.config.vision, depth=0)
    reference = bench.reference(lambda: siglip.SigLIPVisionTowerTorch(vision), f"{TOWER}.")
    images = torch.from_numpy(bench.inputs.images)[0]
    device = SigLIPVisionTowerTTNN(vision, bench.weights("vision", TOWER))
    return Pair(reference.embed_patches(images), download(device.embed_patches(bench.device_inputs.images))[:, 0])


def _siglip(name: str, torch_class: type[nn.Module], ttnn_class: Callable, residual: bool = False) -> Callable:
    """Compare a part of the first block on one image."""

    def compare(bench: Bench) -> Pair:
        vision, full_name = bench.config.vision, f"{TOWER}.layers.0{name}"
        hidden = normal(vision.num_patches, vision.width)
        expected = bench.reference(lambda: torch_class(vision), f"{full_name}.")(hidden[None])[0]
        actual = download(ttnn_class(vision, bench.weights("vision", full_name))(bench.upload(hidden)))[0, 0]
        return Pair(expected, actual, hidden if residual else None)

    return compare


def _siglip_tower(bench: Bench) -> Pair:
    vision = bench.config.vision
    reference = bench.reference(lambda: siglip.SigLIPVisionTowerTorch(vision), f"{TOWER}.")
    device = SigLIPVisionTowerTTNN(vision, bench.weights("vision", TOWER))
    expected = reference(torch.from_numpy(bench.inputs.images)[0])
    return Pair(expected, download(device(bench.device_inputs.images))[:, 0])


def _projector(bench: Bench) -> Pair:
    config, name = bench.config, "prefix_embedding.projector"
    features = normal(config.vision.num_patches, config.vision.width)
    reference = bench.reference(lambda: nn.Linear(config.vision.width, config.prefix.width), f"{name}.")
    device = bench.weights("vision", "prefix_embedding").linear("projector")
    return Pair(reference(features), download(device(bench.upload(features)))[0, 0])


def _prefix_embedding(bench: Bench) -> Pair:
    """Compare it without the tower's blocks, which have rows of their own."""
    config = replace(bench.config, vision=replace(bench.config.vision, depth=0))
    inputs, on_device = bench.inputs, bench.device_inputs
    reference = bench.reference(lambda: PrefixEmbeddingTorch(config), "prefix_embedding.")
    expected = reference.embed_prefix(torch.from_numpy(inputs.images), torch.from_numpy(inputs.tokens))[0]
    device = PrefixEmbeddingTTNN(
        config, bench.weights("vision", "prefix_embedding"), bench.weights("prefix", "prefix_embedding")
    )
    actual = download(device.embed_prefix(on_device.images, on_device.tokens))[0, 0]
    return Pair(expected, actual[: len(expected)])


@dataclass(frozen=True)
class GemmaCase:
    """Rows of the prefix or of the expert, and what they attend to.

    hidden: [rows, width]
    valid: bool [rows], false for padding, which is not compared
    past: what is attended to before the own keys and values, [1, kv_heads, prefix, head_dim]
    place: where the device has each row, [rows], among its `length` rows
    """

    bench: Bench
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
        return self.part == "expert" and self.bench.config.pi05

    @property
    def condition(self) -> Tensor | None:
        return self.bench.condition if self.adaptive else None

    @property
    def conditions(self) -> list[Tensor] | None:
        """The condition as the device's norms take it, for step 0."""
        return None if self.condition is None else [self.condition[0]]

    def weights(self, name: str) -> Weights:
        return self.bench.weights(self.part, f"{self.part}.layers.0{name}")

    def reference(self, build: Callable[[], Module], name: str) -> Module:
        return self.bench.reference(build, f"{self.part}.layers.0{name}.")

    def upload(self, rows: Tensor) -> ttnn.Tensor:
        """Return [..., rows, width] in the device's rows."""
        return self.bench.upload(_placed(rows, self.place, self.length))

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
        rows = prefix_length(self.bench.config) + self.length
        key, value = (_placed(x[0], torch.arange(x.shape[2]), rows) for x in self.past)
        return self.bench.upload(key), self.bench.upload(value)

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


def _prefix(bench: Bench) -> GemmaCase:
    config, inputs, pad_mask = bench.config, bench.device_inputs, bench.pad_mask
    length = pad_mask.shape[1]
    return GemmaCase(
        bench=bench,
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


def _expert(bench: Bench) -> GemmaCase:
    config, inputs, pad_mask = bench.config, bench.device_inputs, bench.pad_mask
    state_tokens, horizon, heads = config.num_state_tokens, config.horizon, config.expert
    length = state_tokens + horizon
    key, value = normal(2, 1, heads.num_kv_heads, pad_mask.shape[1], heads.head_dim)
    return GemmaCase(
        bench=bench,
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


def _prefix_rms_norm(case: GemmaCase) -> Pair:
    # As large as a residual stream becomes.
    hidden, width, name = 8.0 * case.hidden, case.config.width, ".input_layernorm"
    expected, _ = case.reference(lambda: gemma.GemmaRMSNormTorch(width), name)(hidden[None])
    return case.pair(expected, GemmaRMSNormTTNN(case.weights(name))(case.upload(hidden)))


def _prefix_rope(case: GemmaCase) -> Pair:
    heads = normal(case.config.num_heads, len(case.hidden), case.config.head_dim)
    expected = gemma.GemmaRotaryEmbeddingTorch.rotate(heads[None], case.rotary)
    return case.pair(expected, GemmaRotaryEmbeddingTTNN.rotate(case.upload(heads), case.device_rotary))


def _prefix_attention(case: GemmaCase) -> Pair:
    reference = case.reference(lambda: gemma.GemmaAttentionTorch(case.config), ".self_attn")
    hidden = case.hidden[None]
    expected = reference.attend(hidden, reference.key_value(hidden, case.rotary), case.rotary, case.mask)
    device = GemmaAttentionTTNN(case.config, case.weights(".self_attn"))
    actual, _ = device(case.upload(case.hidden), case.device_rotary, case.device_mask)
    return case.pair(expected, actual)


def _prefix_mlp(case: GemmaCase) -> Pair:
    expected = case.reference(lambda: gemma.GemmaMLPTorch(case.config), ".mlp")(case.hidden[None])
    return case.pair(expected, GemmaMLPTTNN(case.weights(".mlp"))(case.upload(case.hidden)))


def _prefix_block(case: GemmaCase) -> Pair:
    expected, _ = case.reference_block(case.hidden[None], case.rotary, case.mask)
    device = GemmaDecoderBlockTTNN(case.config, case.weights(""))
    actual, _ = device(case.upload(case.hidden), case.device_rotary, case.device_mask)
    return case.pair(expected, actual, case.hidden)


def _expert_rms_norm(case: GemmaCase) -> Pair:
    """Compare the final norm: the others are part of the product after them."""
    hidden, width = 8.0 * case.hidden, case.config.width
    norm = gemma.GemmaAdaptiveRMSNormTorch if case.adaptive else gemma.GemmaRMSNormTorch
    expected, _ = case.bench.reference(lambda: norm(width), "expert.norm.")(hidden[None], case.condition)
    weights, conditions = case.bench.weights("expert", "expert.norm"), case.conditions
    device = GemmaRMSNormTTNN(weights) if conditions is None else GemmaAdaptiveRMSNormTTNN(weights, conditions)
    return case.pair(expected, device(case.upload(hidden), 0))


def _expert_rope(case: GemmaCase) -> Pair:
    """Compare the keys that attention leaves in the cache."""
    _, (expected, _) = _reference_attention(case)
    cache = case.device_cache
    case.device_block.attention(case.upload(case.hidden), case.device_rotary, case.device_mask, cache, 0)
    own = ttnn.slice(cache[0], [0, 0, cache[0].shape[2] - case.length, 0], list(cache[0].shape))
    return case.pair(expected, own)


def _expert_attention(case: GemmaCase) -> Pair:
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


def _expert_mlp(case: GemmaCase) -> Pair:
    """Compare hidden + gate * mlp(norm(hidden)): the device has it in one."""
    block, hidden = case.reference_block, case.hidden[None]
    normed, gate = block.post_attention_layernorm(hidden, case.condition)
    expected = gemma.gated_residual(hidden, block.mlp(normed), gate)
    return case.pair(expected, case.device_block.mlp(case.upload(case.hidden), 0), case.hidden)


def _expert_block(case: GemmaCase) -> Pair:
    expected, _ = case.reference_block(case.hidden[None], case.rotary, case.mask, case.past, case.condition)
    actual = case.device_block(case.upload(case.hidden), case.device_rotary, case.device_mask, case.device_cache, 0)
    return case.pair(expected, actual, case.hidden)


def _expert_block_vjp(case: GemmaCase) -> Pair:
    """Compare the gradient of a block's input, given a random one of its output."""
    grad = normal(1 + len(case.hidden), case.config.width)[1:]
    block = case.reference_block
    with torch.enable_grad():
        hidden = case.hidden[None].requires_grad_()
        out, _ = block(hidden, case.rotary, case.mask, case.past, case.condition)
        (expected,) = torch.autograd.grad(out, hidden, grad[None])
    (cos, sin), upload = case.device_rotary, case.upload
    suffix = Suffix((cos, sin), (cos, ttnn.neg(sin)), case.device_mask, ttnn.L1_MEMORY_CONFIG, 0)
    _, pull = block_pullback(case.device_block, upload(case.hidden.detach()), suffix, case.device_cache)
    return case.pair(expected, pull(upload(grad)), grad)


def _suffix_embedding(bench: Bench) -> Pair:
    config, inputs, case = bench.config, bench.device_inputs, _expert(bench)
    reference = bench.reference(lambda: SuffixEmbeddingTorch(config), "suffix_embedding.")
    state, noise = torch.from_numpy(bench.inputs.state), torch.from_numpy(bench.inputs.noise)
    expected, _ = reference.embed_suffix(state, noise, bench.time)
    device = SuffixEmbeddingTTNN(config, bench.weights("suffix", "suffix_embedding"), config.num_steps)
    embedded = None if inputs.state is None else device.embed_state(inputs.state)
    return case.pair(expected, device.embed_suffix(embedded, inputs.noise, inputs.action_rows, STEP))


def _output_projection(bench: Bench) -> Pair:
    """Compare the velocity: the device's result is what an Euler step adds to the actions."""
    config, case = bench.config, _expert(bench)
    reference = bench.reference(lambda: SuffixEmbeddingTorch(config), "suffix_embedding.")
    expected = reference.project_output(case.hidden[None]) / -config.num_steps
    device = SuffixEmbeddingTTNN(config, bench.weights("suffix", "suffix_embedding"), config.num_steps)
    return case.pair(expected, device.project_output(case.upload(case.hidden)))


def _expert_step(bench: Bench) -> Pair:
    """Compare what one Euler step adds, on the reference's KV cache: the prefix's own error is not in it."""
    on_device, (_, device) = bench.device_inputs, bench.models
    prefix, displacement = _reference_displacement(bench)
    expected = displacement(torch.from_numpy(bench.inputs.noise))
    cache, state = _cache_of(bench, prefix), device.embed_state(on_device)
    actual = download(device.displacement(cache, state, on_device, on_device.noise, STEP))
    return Pair(expected[0], actual[0, 0, : bench.config.horizon])


def _expert_step_vjp(bench: Bench) -> Pair:
    """Compare the gradient of the noisy actions, given a random one of what an Euler step adds to them."""
    config, on_device, (_, device) = bench.config, bench.device_inputs, bench.models
    prefix, displacement = _reference_displacement(bench)
    grad = normal(1 + config.horizon, config.action_dim)[1:]
    with torch.enable_grad():
        noise = torch.from_numpy(bench.inputs.noise).requires_grad_()
        (expected,) = torch.autograd.grad(displacement(noise), noise, grad[None])
    cache, state, turned_back = _cache_of(bench, prefix), device.embed_state(on_device), device.turned_back(on_device)
    _, pull = device.differentiable_displacement(cache, state, on_device, turned_back, on_device.noise, STEP)
    actual = download(pull(bench.upload(_placed(grad, torch.arange(config.horizon), suffix_length(config)))))
    return Pair(expected[0], actual[0, 0, : config.horizon])


def _reference_displacement(bench: Bench) -> tuple[PrefixTorch, Callable[[Tensor], Tensor]]:
    """Return the reference's prefix, and what Euler step STEP adds to actions there."""
    inputs, (reference, _) = bench.inputs, bench.models
    tensors = {name: torch.from_numpy(array) for name, array in vars(inputs).items()}
    prefix = reference.encode_prefix(*(tensors[name] for name in ("images", "image_masks", "tokens", "token_mask")))
    return prefix, lambda actions: (
        reference.velocity(prefix, tensors["state"], actions, bench.time) / -bench.config.num_steps
    )


def _cache_of(bench: Bench, prefix: PrefixTorch) -> list[KV]:
    """Return the reference's KV cache on the device, which has a place for padding, too."""
    place = bench.pad_mask[0].nonzero()[:, 0]
    length = prefix_length(bench.config) + suffix_length(bench.config)
    key_values = [[bench.upload(_placed(x[0], place, length)) for x in kv] for kv in prefix.cache]
    return [(key, value) for key, value in key_values]


def _actions(bench: Bench) -> Pair:
    config, inputs = bench.config, bench.inputs
    reference, device = bench.models
    tensors = {name: torch.from_numpy(array) for name, array in vars(inputs).items()}
    expected = reference.sample_actions(**tensors, num_steps=config.num_steps)
    actual = download(device.sample_actions(bench.device_inputs, device.allocate_cache(batch=1)))
    return Pair(expected[0], actual[0, 0, : config.horizon], tensors["noise"][0])


def _guided_actions(bench: Bench) -> Pair:
    """Compare actions that agree with earlier ones in half of their values, in a fifth of the chunk to the full."""
    config, (reference, device) = bench.config, bench.models
    actions = normal(config.horizon, config.action_dim // 2)[None].numpy()
    prefix = ActionPrefix(actions, prefix_weights(config.horizon, config.horizon // 5, config.horizon // 2))
    tensors = {name: torch.from_numpy(array) for name, array in vars(bench.inputs).items()}
    of_prefix = {f"prefix_{name}": torch.from_numpy(array) for name, array in vars(prefix).items()}
    expected = reference.sample_actions(**tensors, num_steps=config.num_steps, **of_prefix)
    actual = download(device.sample_actions(bench.upload_inputs(prefix), device.allocate_cache(batch=1)))
    return Pair(expected[0], actual[0, 0, : config.horizon], tensors["noise"][0])


@dataclass(frozen=True)
class Component:
    """compare: builds it in the reference and on the device, and runs both.
    of_vision: it sees one camera's image, not the prefix.
    all_layers: it has all layers of the model by its nature.
    """

    compare: Callable[[Bench], Pair]
    of_vision: bool = False
    all_layers: bool = False


def _of(case: Callable[[Bench], GemmaCase], component: GemmaComponent) -> Component:
    return Component(lambda bench: component(case(bench)))


def shortened(config: PI0Config) -> PI0Config:
    """Return a model of the same widths that a simulator runs in minutes: one layer deep, with a short prefix."""
    return replace(
        config,
        vision=replace(config.vision, depth=1, image_size=2 * config.vision.patch_size),
        prefix=replace(config.prefix, depth=1),
        expert=replace(config.expert, depth=1),
        vocab_size=min(config.vocab_size, 1024),
        num_tokens=min(config.num_tokens, 48),
    )


def components(config: PI0Config) -> dict[str, Component]:
    """Return the components of a model by name, in the order of the data."""
    norm = "adaptive_rms_norm" if config.pi05 else "rms_norm"
    attention = _siglip(".self_attn", siglip.SigLIPAttentionTorch, SigLIPAttentionTTNN)
    mlp = _siglip(".mlp", siglip.SigLIPMLPTorch, lambda _, weights: SigLIPMLPTTNN(weights))
    block = _siglip("", siglip.SigLIPBlockTorch, SigLIPBlockTTNN, residual=True)
    return {
        "patch_embedding": Component(_patch_embedding, of_vision=True),
        "siglip_attention": Component(attention, of_vision=True),
        "siglip_mlp": Component(mlp, of_vision=True),
        "siglip_block": Component(block, of_vision=True),
        "siglip_tower": Component(_siglip_tower, of_vision=True, all_layers=True),
        "projector": Component(_projector, of_vision=True),
        "prefix_embedding": Component(_prefix_embedding),
        "prefix_rms_norm": _of(_prefix, _prefix_rms_norm),
        "prefix_rope": _of(_prefix, _prefix_rope),
        "prefix_attention": _of(_prefix, _prefix_attention),
        "prefix_mlp": _of(_prefix, _prefix_mlp),
        "prefix_block": _of(_prefix, _prefix_block),
        "suffix_embedding": Component(_suffix_embedding),
        f"expert_{norm}": _of(_expert, _expert_rms_norm),
        "expert_rope": _of(_expert, _expert_rope),
        "expert_attention": _of(_expert, _expert_attention),
        "expert_mlp": _of(_expert, _expert_mlp),
        "expert_block": _of(_expert, _expert_block),
        "expert_block_vjp": _of(_expert, _expert_block_vjp),
        "expert_step": Component(_expert_step),
        "expert_step_vjp": Component(_expert_step_vjp),
        "output_projection": Component(_output_projection),
        "actions": Component(_actions, all_layers=True),
        "guided_actions": Component(_guided_actions, all_layers=True),
    }
