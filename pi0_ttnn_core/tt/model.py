"""The whole of PI0 and PI0.5 in TTNN. Compare `reference/model.py`."""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.tt.common import KV, Tensor
from pi0_ttnn_core.tt.denoise import denoise
from pi0_ttnn_core.tt.gemma import GemmaModelTTNN
from pi0_ttnn_core.tt.precision import Precision
from pi0_ttnn_core.tt.prefix import PrefixEmbeddingTTNN
from pi0_ttnn_core.tt.suffix import SuffixEmbeddingTTNN
from pi0_ttnn_core.tt.weights import Weights, WeightSource


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


class PI0ModelTTNN:
    """Images, prompt, state and noise to actions, for one number of Euler steps."""

    def __init__(self, config: PI0Config, source: WeightSource, precision: Precision, num_steps: int) -> None:
        def weights(part: str, name: str) -> Weights:
            return Weights(source, getattr(precision, part)).of(name)

        self.config = config
        self.num_steps = num_steps
        self.prefix_embedding = PrefixEmbeddingTTNN(
            config, weights("vision", "prefix_embedding"), weights("prefix", "prefix_embedding")
        )
        self.prefix = GemmaModelTTNN(config.prefix, weights("prefix", "prefix"))
        self.suffix_embedding = SuffixEmbeddingTTNN(config, weights("suffix", "suffix_embedding"), num_steps)
        self.expert = GemmaModelTTNN(config.expert, weights("expert", "expert"), self.suffix_embedding.conditions)

    def encode_prefix(self, inputs: DeviceInputs) -> list[KV]:
        """Run vision tower and prefix: the KV cache of images and prompt."""
        embedded = self.prefix_embedding.embed_prefix(inputs.images, inputs.tokens)
        return self.prefix.prefill(embedded, (inputs.prefix_cos, inputs.prefix_sin), inputs.prefix_mask)

    def displacement(
        self, cache: list[KV], state: Tensor | None, inputs: DeviceInputs, actions: Tensor, step: int
    ) -> Tensor:
        """Return what Euler step `step` adds to `actions`; `state` is embedded."""
        embedded = self.suffix_embedding.embed_suffix(state, actions, inputs.action_rows, step)
        rotary = inputs.suffix_cos, inputs.suffix_sin
        return self.suffix_embedding.project_output(self.expert(embedded, rotary, inputs.suffix_mask, cache, step))

    def sample_actions(self, inputs: DeviceInputs) -> Tensor:
        """Return the actions, float32 [1, 1, batch * suffix, action_dim], in the rows that `HostInputs` gives them."""
        cache = self.encode_prefix(inputs)
        state = None if inputs.state is None else self.suffix_embedding.embed_state(inputs.state)
        return denoise(
            lambda actions, step: self.displacement(cache, state, inputs, actions, step), inputs.noise, self.num_steps
        )
