"""The prefix in torch: camera images and the prompt, embedded into one sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.reference.siglip import SigLIPVisionTowerTorch


class PrefixEmbeddingTorch(nn.Module):
    """Vision tower, projector and token embedding (openpi models/pi0.py, `embed_prefix`)."""

    def __init__(self, config: PI0Config) -> None:
        super().__init__()
        self.vision_tower = SigLIPVisionTowerTorch(config.vision)
        self.projector = nn.Linear(config.vision.width, config.prefix.width)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.prefix.width)

    def embed_images(self, images: Tensor) -> Tensor:
        """Map images [batch, cameras, 3, size, size] in [-1, 1] to [batch, cameras * patches, width]."""
        features = self.projector(self.vision_tower(images.flatten(0, 1)))
        return features.unflatten(0, images.shape[:2]).flatten(1, 2)

    def embed_language(self, tokens: Tensor) -> Tensor:
        """Map tokens [batch, tokens] to [batch, tokens, width], scaled by sqrt(width) as in Gemma."""
        embedded = self.embed_tokens(tokens)
        return embedded * embedded.shape[-1] ** 0.5

    def embed_prefix(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Return images, then tokens, [batch, cameras * patches + tokens, width]."""
        return torch.cat([self.embed_images(images), self.embed_language(tokens)], dim=1)
