"""PI0 and PI0.5 as a whole, in TTNN. Compare `reference/model.py`.

The flow's time runs from t = 1, noise, to t = 0, actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

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

T = TypeVar("T")


@dataclass(frozen=True)
class Inputs(Generic[T]):
    """Inputs of one inference as the device takes them; T is the type of a tensor on the host or on the device.

    On the host, tensors are float32 unless said otherwise. `prefix` and `suffix` are padded lengths; the sequences of a
    batch are concatenated.

    Attributes:
        images: [batch * cameras, size, size / patch, patch * 3]. Each row of pixels is cut at the patches' edges.
        tokens: int32 [batch, prefix - cameras * patches].
        state: [1, 1, batch * suffix, action_dim + 1]. The state and a 1 in its row, zeros elsewhere. PI0 only.
        action_rows: [1, 1, batch * suffix, width]. 1 in the rows of actions, zeros elsewhere. PI0 only.
        noise: [1, 1, batch * suffix, action_dim].
        prefix_mask: [1, 1, batch * prefix, batch * prefix], additive.
        suffix_mask: [1, 1, batch * suffix, batch * (prefix + suffix)], additive. All prefixes, then all suffixes.
        prefix_cos: [1, 1, batch * prefix, head_dim].
        prefix_sin: of the same shape.
        suffix_cos: [1, 1, batch * suffix, head_dim].
        suffix_sin: of the same shape.
        target_actions: [1, 1, batch * suffix, action_dim], see `guidance.DeviceTarget`. With guidance only.
        target_remainder: of the same shape. With guidance only.
        guidance_mask: of the same shape. With guidance only.
    """

    images: T
    tokens: T
    state: T | None
    action_rows: T | None
    noise: T
    prefix_mask: T
    suffix_mask: T
    prefix_cos: T
    prefix_sin: T
    suffix_cos: T
    suffix_sin: T
    target_actions: T | None = None
    target_remainder: T | None = None
    guidance_mask: T | None = None

    def present(self) -> dict[str, T]:
        """Return the tensors that this model has, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}


DeviceInputs = Inputs[Tensor]


class PI0ModelTTNN:
    """Maps images, prompt, state and noise to actions, for one number of Euler steps."""

    def __init__(self, config: PI0Config, source: WeightSource, precision: Precision, num_steps: int) -> None:
        def weights(part: str, name: str) -> Weights:
            return Weights(source, getattr(precision, part)).child(name)

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
        """Return the KV cache of a batch: the rows of all prefixes, then those of all suffixes.

        It is not initialised: every row is written before it is read.
        """
        prefix, rows = self.config.prefix, batch * (prefix_length(self.config) + suffix_length(self.config))
        shape = ttnn.Shape((1, prefix.num_kv_heads, rows, prefix.head_dim))

        def allocate() -> Tensor:
            return ttnn.allocate_tensor_on_device(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, self.device)

        return [(allocate(), allocate()) for _ in range(prefix.depth)]

    def encode_prefix(self, inputs: DeviceInputs, cache: list[KV]) -> None:
        """Run vision tower and prefix; write the KV cache of images and prompt into `cache`."""
        embedded = self.prefix_embedding.embed_prefix(inputs.images, inputs.tokens)
        self.prefix.prefill(embedded, (inputs.prefix_cos, inputs.prefix_sin), inputs.prefix_mask, cache)

    def embed_state(self, inputs: DeviceInputs) -> Tensor | None:
        """Return the embedded state, or None for PI0.5."""
        return None if inputs.state is None else self.suffix_embedding.embed_state(inputs.state)

    def displacement(
        self, cache: list[KV], state: Tensor | None, inputs: DeviceInputs, x_t: Tensor, step: int
    ) -> Tensor:
        """Return dt * v_t: what Euler step `step` adds to the noisy actions x_t. `state` is embedded."""
        embedded = self.suffix_embedding.embed_suffix(state, x_t, inputs.action_rows, step)
        rotary = inputs.suffix_cos, inputs.suffix_sin
        return self.suffix_embedding.project_output(self.expert(embedded, rotary, inputs.suffix_mask, cache, step))

    def inverse_rotary(self, inputs: DeviceInputs) -> Rotary:
        """Return the rotary tables that rotate back what those of the suffix have rotated."""
        return inputs.suffix_cos, ttnn.neg(inputs.suffix_sin)

    def differentiable_displacement(
        self,
        cache: list[KV],
        state: Tensor | None,
        inputs: DeviceInputs,
        inverse_rotary: Rotary,
        x_t: Tensor,
        step: int,
    ) -> tuple[Tensor, Vjp]:
        """Return the result of `displacement`, and its vjp, which maps a gradient of the result to that of x_t."""
        embedding, action_rows = self.suffix_embedding, inputs.action_rows
        embedded = embedding.embed_suffix(state, x_t, action_rows, step)
        rotary, gemma = (inputs.suffix_cos, inputs.suffix_sin), self.config.expert
        # What `block_vjp` saves of each layer: its input, the queries, and the input plus attention.
        width = 2 * gemma.width + gemma.num_heads * gemma.head_dim
        memory_config = activation_memory((gemma.depth, embedded.shape[2], width), self.device)
        suffix = Suffix(rotary, inverse_rotary, inputs.suffix_mask, memory_config, step)
        hidden, hidden_vjp = expert_vjp(self.expert, embedded, suffix, cache)

        def vjp(grad: Tensor) -> Tensor:
            return embedding.suffix_vjp(x_t, action_rows, step, hidden_vjp(embedding.output_vjp(grad)))

        return embedding.project_output(hidden), vjp

    def denoise(self, inputs: DeviceInputs, cache: list[KV]) -> Tensor:
        """Return the actions to which the flow leads from the noise, given the prefix in the cache.

        Given a target, the flow is guided towards it, see `guidance.guide`.
        """
        state, target = self.embed_state(inputs), _target(inputs)
        if target is None:
            return denoise(
                lambda x_t, step: [self.displacement(cache, state, inputs, x_t, step)], inputs.noise, self.num_steps
            )
        inverse_rotary = self.inverse_rotary(inputs)

        def displacement(x_t: Tensor, step: int) -> tuple[Tensor, Vjp]:
            return self.differentiable_displacement(cache, state, inputs, inverse_rotary, x_t, step)

        return denoise(guide(displacement, target, self.num_steps), inputs.noise, self.num_steps)

    def sample_actions(self, inputs: DeviceInputs, cache: list[KV]) -> Tensor:
        """Return the actions, float32 [1, 1, batch * suffix, action_dim], in the rows of `Inputs.noise`."""
        self.encode_prefix(inputs, cache)
        return self.denoise(inputs, cache)


def _target(inputs: DeviceInputs) -> DeviceTarget | None:
    if inputs.target_actions is None or inputs.target_remainder is None or inputs.guidance_mask is None:
        return None
    return DeviceTarget(inputs.target_actions, inputs.target_remainder, inputs.guidance_mask)
