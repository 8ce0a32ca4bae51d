"""The whole of PI0 and PI0.5 in TTNN. Compare `reference/model.py`."""

from __future__ import annotations

from dataclasses import dataclass

import ttnn

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.precision import Precision
from pi0_ttnn_core.tt.common import KV, Rotary, Tensor, activation_memory
from pi0_ttnn_core.tt.denoise import denoise
from pi0_ttnn_core.tt.expert import GemmaExpertTTNN
from pi0_ttnn_core.tt.gemma import GemmaPrefixTTNN
from pi0_ttnn_core.tt.geometry import prefix_length, suffix_length
from pi0_ttnn_core.tt.guidance import DeviceTarget, guide
from pi0_ttnn_core.tt.prefix import PrefixEmbeddingTTNN
from pi0_ttnn_core.tt.suffix import SuffixEmbeddingTTNN
from pi0_ttnn_core.tt.vjp import Suffix, Vjp, expert_vjp
from pi0_ttnn_core.tt.weights.conversion import Weights, WeightSource


@dataclass(frozen=True)
class DeviceInputs:
    """`HostInputs` on the device."""

    images: Tensor
    tokens: Tensor
    state: Tensor | None
    action_rows: Tensor | None
    noise: Tensor
    prefix_mask: Tensor
    suffix_mask: Tensor
    prefix_cos: Tensor
    prefix_sin: Tensor
    suffix_cos: Tensor
    suffix_sin: Tensor
    target_actions: Tensor | None
    target_remainder: Tensor | None
    guidance_mask: Tensor | None

    @property
    def target(self) -> DeviceTarget | None:
        if self.target_actions is None or self.target_remainder is None or self.guidance_mask is None:
            return None
        return DeviceTarget(self.target_actions, self.target_remainder, self.guidance_mask)


class PI0ModelTTNN:
    """Images, prompt, state and noise to actions, for one number of Euler steps."""

    def __init__(self, config: PI0Config, source: WeightSource, precision: Precision, num_steps: int) -> None:
        def weights(part: str, name: str) -> Weights:
            return Weights(source, getattr(precision, part)).of(name)

        self.config = config
        self.device = source.device
        self.num_steps = num_steps
        self.prefix_embedding = PrefixEmbeddingTTNN(
            config, weights("vision", "prefix_embedding"), weights("prefix", "prefix_embedding")
        )
        self.prefix = GemmaPrefixTTNN(config.prefix, weights("prefix", "prefix"))
        self.suffix_embedding = SuffixEmbeddingTTNN(config, weights("suffix", "suffix_embedding"), num_steps)
        self.expert = GemmaExpertTTNN(config.expert, weights("expert", "expert"), self.suffix_embedding.conditions)

    def allocate_cache(self, batch: int) -> list[KV]:
        """Return the KV cache of a batch, a pair for each layer: all prefixes, then the rows of the running suffixes.

        Every row is written before it is read, so nothing is filled in here.
        """
        prefix, rows = self.config.prefix, batch * (prefix_length(self.config) + suffix_length(self.config))
        shape = ttnn.Shape((1, prefix.num_kv_heads, rows, prefix.head_dim))

        def allocate() -> Tensor:
            return ttnn.allocate_tensor_on_device(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, self.device)

        return [(allocate(), allocate()) for _ in range(prefix.depth)]

    def encode_prefix(self, inputs: DeviceInputs, cache: list[KV]) -> None:
        """Run vision tower and prefix: the KV cache of images and prompt."""
        embedded = self.prefix_embedding.embed_prefix(inputs.images, inputs.tokens)
        self.prefix.prefill(embedded, (inputs.prefix_cos, inputs.prefix_sin), inputs.prefix_mask, cache)

    def embed_state(self, inputs: DeviceInputs) -> Tensor | None:
        """Return the embedded state, which PI0 has and PI0.5 has not."""
        return None if inputs.state is None else self.suffix_embedding.embed_state(inputs.state)

    def displacement(
        self, cache: list[KV], state: Tensor | None, inputs: DeviceInputs, actions: Tensor, step: int
    ) -> Tensor:
        """Return what Euler step `step` adds to `actions`; `state` is embedded."""
        embedded = self.suffix_embedding.embed_suffix(state, actions, inputs.action_rows, step)
        rotary = inputs.suffix_cos, inputs.suffix_sin
        return self.suffix_embedding.project_output(self.expert(embedded, rotary, inputs.suffix_mask, cache, step))

    def inverse_rotary(self, inputs: DeviceInputs) -> Rotary:
        """Return the rotary tables that undo those of the suffix."""
        return inputs.suffix_cos, ttnn.neg(inputs.suffix_sin)

    def differentiable_displacement(
        self,
        cache: list[KV],
        state: Tensor | None,
        inputs: DeviceInputs,
        inverse_rotary: Rotary,
        actions: Tensor,
        step: int,
    ) -> tuple[Tensor, Vjp]:
        """Return what `displacement` returns, and its vjp: from a gradient of it to that of `actions`."""
        embedding, action_rows = self.suffix_embedding, inputs.action_rows
        embedded = embedding.embed_suffix(state, actions, action_rows, step)
        rotary, gemma = (inputs.suffix_cos, inputs.suffix_sin), self.config.expert
        # Of each layer its input, what attention makes of it, and the queries.
        width = 2 * gemma.width + gemma.num_heads * gemma.head_dim
        kept = activation_memory((gemma.depth, embedded.shape[2], width), self.device)
        suffix = Suffix(rotary, inverse_rotary, inputs.suffix_mask, kept, step)
        hidden, hidden_vjp = expert_vjp(self.expert, embedded, suffix, cache)

        def vjp(grad: Tensor) -> Tensor:
            return embedding.suffix_vjp(actions, action_rows, step, hidden_vjp(embedding.output_vjp(grad)))

        return embedding.project_output(hidden), vjp

    def denoise(self, inputs: DeviceInputs, cache: list[KV]) -> Tensor:
        """Return the actions that the flow leads to from the noise, given the prefix in the cache.

        With actions to agree with, which `guidance.guide` explains, they do.
        """
        state, target = self.embed_state(inputs), inputs.target
        if target is None:
            return denoise(
                lambda actions, step: [self.displacement(cache, state, inputs, actions, step)],
                inputs.noise,
                self.num_steps,
            )
        inverse_rotary = self.inverse_rotary(inputs)

        def displacement(actions: Tensor, step: int) -> tuple[Tensor, Vjp]:
            return self.differentiable_displacement(cache, state, inputs, inverse_rotary, actions, step)

        return denoise(guide(displacement, target, self.num_steps), inputs.noise, self.num_steps)

    def sample_actions(self, inputs: DeviceInputs, cache: list[KV]) -> Tensor:
        """Return the actions, float32 [1, 1, batch * suffix, action_dim], in the rows that `HostInputs` gives them."""
        self.encode_prefix(inputs, cache)
        return self.denoise(inputs, cache)
