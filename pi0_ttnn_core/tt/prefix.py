"""The prefix in TTNN: camera images and the prompt, embedded into one sequence. Compare `reference/prefix.py`."""

from __future__ import annotations

import ttnn

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.tt.common import Tensor, activation_memory
from pi0_ttnn_core.tt.siglip import SigLIPVisionTowerTTNN
from pi0_ttnn_core.tt.weights.conversion import Weights


class PrefixEmbeddingTTNN:
    """Vision tower, projector and token embedding."""

    def __init__(self, config: PI0Config, vision: Weights, prefix: Weights) -> None:
        self.config = config
        self.vision_tower = SigLIPVisionTowerTTNN(config.vision, vision.child("vision_tower"))
        self.projector = vision.linear("projector")
        # Gemma's scaling by sqrt(width) is folded into the table.
        self.embed_tokens = prefix.to_device(
            "embed_tokens",
            lambda: prefix.tensor("embed_tokens.weight") * config.prefix.width**0.5,
            layout=ttnn.ROW_MAJOR_LAYOUT,
        )

    def embed_images(self, images: Tensor) -> Tensor:
        """Map images, laid out as for `embed_patches`, to [batch, 1, cameras * patches, width]."""
        features = self.projector(self.vision_tower(images))
        cameras, patches = self.config.num_cameras, self.config.vision.num_patches
        return ttnn.reshape(features, (images.shape[0] // cameras, 1, cameras * patches, features.shape[-1]))

    def embed_language(self, tokens: Tensor) -> Tensor:
        """Map tokens, uint32 [batch, tokens], to [batch, 1, tokens, width]."""
        embedded = ttnn.embedding(tokens, self.embed_tokens, layout=ttnn.TILE_LAYOUT, dtype=ttnn.bfloat16)
        return ttnn.unsqueeze(embedded, 1)

    def embed_prefix(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Return [1, 1, batch * prefix, width]: for each sequence of the batch its images, then its tokens."""
        parts = [self.embed_images(images), self.embed_language(tokens)]
        shape = (parts[0].shape[0], parts[0].shape[2] + parts[1].shape[2], parts[0].shape[3])
        embedded = ttnn.concat(parts, dim=2, memory_config=activation_memory(shape, images.device()))
        return ttnn.reshape(embedded, (1, 1, embedded.shape[0] * embedded.shape[2], embedded.shape[3]))
