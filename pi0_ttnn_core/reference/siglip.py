"""The SigLIP vision tower in torch (Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training").

Names and formulas are those of openpi models/siglip.py, variant So400m/14. In comments on shapes, N is the number of
images, P that of patches, H that of heads, D the head's size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from pi0_ttnn_core.configs import VisionConfig

LAYER_NORM_EPS = 1e-6


class SigLIPAttentionTorch(nn.Module):
    """Multi-head self-attention without a mask: [images, patches, width] -> same shape."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [images, patches, width] to the same shape."""
        q, k, v = (self._heads(proj(hidden)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        attended = F.scaled_dot_product_attention(q, k, v)
        # [N, H, P, D] -> [N, P, H * D]
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        # [N, P, H * D] -> [N, H, P, D]
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class SigLIPMLPTorch(nn.Module):
    """Two linear layers with tanh-GELU between them."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [images, patches, width] to the same shape."""
        return self.fc2(F.gelu(self.fc1(hidden), approximate="tanh"))


class SigLIPBlockTorch(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.self_attn = SigLIPAttentionTorch(config)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.mlp = SigLIPMLPTorch(config)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [images, patches, width] to the same shape."""
        hidden = hidden + self.self_attn(self.layer_norm1(hidden))
        return hidden + self.mlp(self.layer_norm2(hidden))


class SigLIPVisionTowerTorch(nn.Module):
    """Patch embedding, blocks and final norm."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, config.width, kernel_size=config.patch_size, stride=config.patch_size)
        self.position_embedding = nn.Embedding(config.num_patches, config.width)
        self.layers = nn.ModuleList(SigLIPBlockTorch(config) for _ in range(config.depth))
        self.post_layernorm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)

    def embed_patches(self, images: Tensor) -> Tensor:
        """Map images [images, 3, size, size] to [images, patches, width]: patches row by row, with positions added."""
        # [N, width, rows, columns] -> [N, P, width]
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
        return patches + self.position_embedding.weight

    def forward(self, images: Tensor) -> Tensor:
        """Map images [images, 3, size, size] in [-1, 1] to features [images, patches, width]."""
        hidden = self.embed_patches(images)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.post_layernorm(hidden)
