"""The SigLIP vision tower in TTNN. Compare `reference/siglip.py`.

Images are the batch: hidden states are [images, 1, patches, width]. In the weights, the head dimension (72) is padded
with zeros to whole tiles (96), so that nothing needs padding at run time.
"""

from __future__ import annotations

import ttnn

from pi0_ttnn_core.configs import VisionConfig
from pi0_ttnn_core.tt.common import EXACT, GELU_TANH, Tensor, activation_memory, add_to, attend, kernel_config
from pi0_ttnn_core.tt.weights.conversion import Weights, concatenated, pad_heads

LAYER_NORM_EPS = 1e-6
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class LayerNormTTNN:
    """LayerNorm over the width."""

    def __init__(self, weights: Weights) -> None:
        self.weight = weights.vector("weight", lambda: weights.tensor("weight"))
        self.bias = weights.vector("bias", lambda: weights.tensor("bias"))

    def __call__(self, hidden: Tensor) -> Tensor:
        """Map [images, 1, patches, width] to the same shape."""
        return ttnn.layer_norm(
            hidden, epsilon=LAYER_NORM_EPS, weight=self.weight, bias=self.bias, compute_kernel_config=EXACT
        )


class SigLIPAttentionTTNN:
    """Multi-head self-attention without a mask."""

    def __init__(self, config: VisionConfig, weights: Weights) -> None:
        heads = config.num_heads
        self.num_heads = heads
        self.scale = config.head_dim**-0.5
        self.config = kernel_config(weights.precision.attention)
        self.qkv_proj = weights.linear_from(
            "qkv_proj",
            lambda: concatenated([pad_heads(weights.tensor(f"{name}.weight"), heads, axis=0) for name in PROJECTIONS]),
            lambda: concatenated([pad_heads(weights.tensor(f"{name}.bias"), heads, axis=0) for name in PROJECTIONS]),
        )
        self.out_proj = weights.linear_from(
            "out_proj",
            lambda: pad_heads(weights.tensor("out_proj.weight"), heads, axis=1),
            lambda: weights.tensor("out_proj.bias"),
        )

    def __call__(self, hidden: Tensor) -> Tensor:
        """Map [images, 1, patches, width] to the same shape."""
        # [N, 1, P, 3 * H * D] -> three times [N, H, P, D]
        q, k, v = ttnn.experimental.nlp_create_qkv_heads(
            self.qkv_proj(hidden), num_heads=self.num_heads, num_kv_heads=self.num_heads, transpose_k_heads=False
        )
        # [N, H, P, D] -> [N, 1, P, H * D]
        return self.out_proj(ttnn.experimental.nlp_concat_heads(attend(q, (k, v), self.config, self.scale)))


class SigLIPMLPTTNN:
    """Two linear layers with tanh-GELU between them."""

    def __init__(self, weights: Weights) -> None:
        self.fc1 = weights.linear("fc1", activation=GELU_TANH)
        self.fc2 = weights.linear("fc2")

    def __call__(self, hidden: Tensor) -> Tensor:
        """Map [images, 1, patches, width] to the same shape."""
        return self.fc2(self.fc1(hidden))


class SigLIPBlockTTNN:
    """One pre-norm transformer block."""

    def __init__(self, config: VisionConfig, weights: Weights) -> None:
        self.layer_norm1 = LayerNormTTNN(weights.child("layer_norm1"))
        self.self_attn = SigLIPAttentionTTNN(config, weights.child("self_attn"))
        self.layer_norm2 = LayerNormTTNN(weights.child("layer_norm2"))
        self.mlp = SigLIPMLPTTNN(weights.child("mlp"))

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the block's output, written into `hidden`."""
        hidden = add_to(hidden, self.self_attn(self.layer_norm1(hidden)))
        return add_to(hidden, self.mlp(self.layer_norm2(hidden)))


class SigLIPVisionTowerTTNN:
    """Patch embedding, blocks and final norm."""

    def __init__(self, config: VisionConfig, weights: Weights) -> None:
        self.config = config
        # The convolution as a linear layer on patches, whose pixels come row by row, channels last.
        self.patch_embedding = weights.linear_from(
            "patch_embedding",
            lambda: weights.tensor("patch_embedding.weight").permute(0, 2, 3, 1).flatten(1),
            lambda: weights.tensor("patch_embedding.bias"),
        )
        self.position_embedding = weights.to_device(
            "position_embedding", lambda: weights.tensor("position_embedding.weight")[None, None]
        )
        self.layers = [SigLIPBlockTTNN(config, weights.child(f"layers.{layer}")) for layer in range(config.depth)]
        self.post_layernorm = LayerNormTTNN(weights.child("post_layernorm"))

    def embed_patches(self, images: Tensor) -> Tensor:
        """Map images to [images, 1, patches, width].

        Images are bfloat16 [images, size, size / patch, patch * 3]: each row of pixels is cut at the patches' edges.
        """
        count, patch, patches = images.shape[0], self.config.patch_size, self.config.num_patches
        unfolded = ttnn.reshape(ttnn.fold(images, patch, 1), (count, 1, patches, 3 * patch * patch))
        embedded = self.patch_embedding(ttnn.to_layout(unfolded, ttnn.TILE_LAYOUT))
        return ttnn.add(
            embedded, self.position_embedding, memory_config=activation_memory(embedded.padded_shape, images.device())
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Map images to features [images, 1, patches, width]."""
        hidden = self.embed_patches(images)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.post_layernorm(hidden)
