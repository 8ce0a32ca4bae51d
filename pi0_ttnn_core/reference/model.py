"""PI0 and PI0.5 as a whole, in torch.

The flow's time runs from t = 1, noise, to t = 0, actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pi0_ttnn_core import masks
from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.reference.denoise import denoise
from pi0_ttnn_core.reference.gemma import KV, GemmaModelTorch
from pi0_ttnn_core.reference.guidance import guide
from pi0_ttnn_core.reference.prefix import PrefixEmbeddingTorch
from pi0_ttnn_core.reference.suffix import SuffixEmbeddingTorch


@dataclass(frozen=True)
class EncodedPrefix:
    """Images and prompt as the action expert needs them, computed once per inference.

    Attributes:
        cache: the KV cache of the prefix.
        pad_mask: bool [batch, prefix]. False for padding.
    """

    cache: list[KV]
    pad_mask: Tensor


class PI0ModelTorch(nn.Module):
    """Maps images, prompt, state and noise to actions. Weights and activations have the module's dtype."""

    def __init__(self, config: PI0Config) -> None:
        super().__init__()
        self.config = config
        self.prefix_embedding = PrefixEmbeddingTorch(config)
        self.prefix = GemmaModelTorch(config.prefix)
        self.suffix_embedding = SuffixEmbeddingTorch(config)
        self.expert = GemmaModelTorch(config.expert, adaptive=config.pi05)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of weights and activations."""
        return self.suffix_embedding.action_in_proj.weight.dtype

    def encode_prefix(self, images: Tensor, image_masks: Tensor, tokens: Tensor, token_mask: Tensor) -> EncodedPrefix:
        """Run vision tower and prefix; return the KV cache of images and prompt. Shapes are those of `ModelInputs`.

        Cameras and tokens that are masked in the whole batch are left out. Positions count valid tokens only, so this
        does not change the result.
        """
        cameras, valid = image_masks.any(dim=0), token_mask.any(dim=0)
        images, image_masks = images[:, cameras], image_masks[:, cameras]
        tokens, token_mask = tokens[:, valid], token_mask[:, valid]
        embedded = self.prefix_embedding.embed_prefix(images.to(self.dtype), tokens)
        pad_mask = masks.prefix_pad_mask(image_masks, token_mask, self.config.vision.num_patches)
        mask, positions = masks.prefix_attention(pad_mask), masks.prefix_positions(pad_mask)
        return EncodedPrefix(self.prefix.prefill(embedded, mask, positions), pad_mask)

    def velocity(self, prefix: EncodedPrefix, state: Tensor, x_t: Tensor, time: Tensor) -> Tensor:
        """Return v_t [batch, horizon, action_dim], the flow's velocity at the noisy actions x_t and `time` [batch]."""
        horizon = self.config.action_horizon
        embedded, condition = self.suffix_embedding.embed_suffix(state.to(self.dtype), x_t.to(self.dtype), time)
        mask = masks.suffix_attention(prefix.pad_mask, self.config.num_state_tokens, horizon)
        positions = masks.suffix_positions(prefix.pad_mask, embedded.shape[1])
        hidden = self.expert(embedded, mask, positions, prefix.cache, condition)
        return self.suffix_embedding.project_output(hidden[:, -horizon:])

    def sample_actions(
        self,
        images: Tensor,
        image_masks: Tensor,
        tokens: Tensor,
        token_mask: Tensor,
        state: Tensor,
        noise: Tensor,
        num_steps: int,
        target_actions: Tensor | None = None,
        guidance_mask: Tensor | None = None,
    ) -> Tensor:
        """Return actions, float32 [batch, horizon, action_dim]. Shapes are those of `ModelInputs`.

        Given `target_actions` and `guidance_mask`, the flow is guided towards them, see `guidance.guide`.
        """
        with torch.inference_mode(target_actions is None):
            prefix = self.encode_prefix(images, image_masks, tokens, token_mask)

            def velocity(x_t: Tensor, time: Tensor) -> Tensor:
                return self.velocity(prefix, state, x_t, time)

            if target_actions is None or guidance_mask is None:
                return denoise(velocity, noise, num_steps)
            return denoise(guide(velocity, target_actions, guidance_mask), noise, num_steps)
