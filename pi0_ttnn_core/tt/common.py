"""Shared by all parts of the model: linear layers, attention, memory of activations, tiles.

Type aliases:
    KV: keys and values of one layer, bfloat16 [1, kv_heads, rows, head_dim] both; keys after the rotary embedding.
    Rotary: cosines and sines of the rotary embedding, bfloat16 [1, 1, rows, head_dim] both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import ttnn

TILE = 32
RMS_NORM_EPS = 1e-6
# Acts as minus infinity when added to logits, and is far inside the range of bfloat16.
MASKED_LOGIT = -1e9
# Bytes per core up to which an activation stays in the cores' L1, beside the buffers of the kernels.
L1_SHARE = 280 * 1024
# Most tiles of a product, in rows and columns, that one core computes at once, and of the inner dimension that it reads
# for them: enough to hide the reads, few enough to fit into L1 beside the activations.
ROW_BLOCK, COLUMN_BLOCK, INNER_BLOCK = 8, 4, 4
# Numbers of queries or keys that attention may process at once.
CHUNKS = (32, 64, 128, 256)

Tensor: TypeAlias = ttnn.Tensor
KV = tuple[Tensor, Tensor]
Rotary = tuple[Tensor, Tensor]

# Activations that can be fused with a product.
GELU_TANH = ttnn.UnaryWithParam(ttnn.UnaryOpType.GELU_TANH)
SILU = ttnn.UnaryWithParam(ttnn.UnaryOpType.SILU)


def tiles(length: int) -> int:
    """Return `length` rounded up to whole tiles."""
    return -(-length // TILE) * TILE


def kernel_config(fidelity: str) -> ttnn.WormholeComputeKernelConfig:
    """Return the configuration of a compute kernel that accumulates in float32."""
    return ttnn.WormholeComputeKernelConfig(
        math_fidelity=getattr(ttnn.MathFidelity, fidelity),
        math_approx_mode=False,
        fp32_dest_acc_en=True,
        packer_l1_acc=True,
    )


# For norms and rotations: they take little of the time, and rounding hurts most there.
EXACT = kernel_config("HiFi4")


def activation_memory(shape: Sequence[int], device: ttnn.MeshDevice) -> ttnn.MemoryConfig:
    """Return where to keep a bfloat16 activation: in L1 if it is small enough, else in DRAM."""
    grid = device.compute_with_storage_grid_size()
    fits = 2 * math.prod(shape) <= L1_SHARE * grid.x * grid.y
    return ttnn.L1_MEMORY_CONFIG if fits else ttnn.DRAM_MEMORY_CONFIG


def matmul_config(rows: int, columns: int, grid: ttnn.CoreCoord) -> ttnn.MinimalMatmulConfig:
    """Return the blocks of a product of `rows` x `columns` tiles, each spread over one axis of the grid."""
    across_rows, across_columns = (grid.x, grid.y) if rows > columns else (grid.y, grid.x)
    row_block = min(-(-rows // across_rows), ROW_BLOCK)
    column_block = min(-(-columns // across_columns), COLUMN_BLOCK)
    # The registers hold four float32 tiles.
    height = next(size for size in (2, 1) if row_block % size == 0)
    width = next(size for size in (4 // height, 2, 1) if column_block % size == 0)
    return ttnn.MinimalMatmulConfig(
        M_block_size=row_block,
        K_block_size=INNER_BLOCK,
        N_block_size=column_block,
        subblock_h=height,
        subblock_w=width,
        compute_with_storage_grid_size=grid,
    )


@dataclass(frozen=True)
class Linear:
    """A linear layer: activation(x @ weight + bias).

    Attributes:
        weight: [inputs, outputs].
        bias: [1, outputs].
        config: math fidelity and accumulation.
        activation: fused into the product.
    """

    weight: Tensor
    bias: Tensor | None
    config: ttnn.WormholeComputeKernelConfig
    activation: ttnn.UnaryWithParam | None = None

    def __call__(self, x: Tensor | list[Tensor]) -> Tensor:
        """Return the layer's output for x, which may be given as two parts of its last axis."""
        rows = list((x[0] if isinstance(x, list) else x).padded_shape)[:-1]
        columns, device = self.weight.padded_shape[-1], self.weight.device()
        return ttnn.experimental.minimal_matmul(
            x,
            self.weight,
            bias_tensor=self.bias,
            fused_activation=self.activation,
            config=matmul_config(math.prod(rows) // TILE, columns // TILE, device.compute_with_storage_grid_size()),
            memory_config=activation_memory((*rows, columns), device),
            dtype=ttnn.bfloat16,
            compute_kernel_config=self.config,
        )


def add_to(hidden: Tensor, branch: Tensor) -> Tensor:
    """Return hidden + branch, written into `hidden`: the residual stream occupies L1 only once."""
    return ttnn.add(hidden, branch, output_tensor=hidden)


def attend(
    query: Tensor, kv: KV, config: ttnn.WormholeComputeKernelConfig, scale: float, mask: Tensor | None = None
) -> Tensor:
    """Return the attention of `query` [batch, heads, queries, head_dim] over `kv`; `mask` is [1, 1, queries, keys]."""
    batch, heads, queries, _ = query.padded_shape
    grid = query.device().compute_with_storage_grid_size()
    # Large chunks re-read keys and values less often; small ones keep more cores busy.
    enough = [
        size for size in CHUNKS if queries % size == 0 and batch * heads * queries // size >= grid.x * grid.y * 3 // 4
    ]
    program = ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=grid,
        q_chunk_size=max(enough, default=TILE),
        k_chunk_size=max(size for size in CHUNKS if kv[0].padded_shape[-2] % size == 0),
        exp_approx_mode=False,
    )
    return ttnn.transformer.scaled_dot_product_attention(
        query,
        *kv,
        attn_mask=mask,
        is_causal=False,
        scale=scale,
        program_config=program,
        compute_kernel_config=config,
        memory_config=activation_memory(query.padded_shape, query.device()),
    )
