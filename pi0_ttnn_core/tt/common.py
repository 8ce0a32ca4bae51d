"""What all parts of the model share: linear layers, attention, where activations lie, tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import ttnn

TILE = 32
RMS_NORM_EPS = 1e-6
# As good as minus infinity where logits are added in bfloat16, and far from its end.
MASKED_LOGIT = -1e9
# Bytes of an activation per core up to which it stays in the cores' L1, beside the buffers of the kernels.
L1_SHARE = 280 * 1024
# Tiles of a product that one core makes at once, at most, and of the inner dimension that it reads for them: enough to
# hide the reading, few enough to fit beside what lies in L1.
ROW_BLOCK, COLUMN_BLOCK, INNER_BLOCK = 8, 4, 4
# Queries or keys that attention takes at once.
CHUNKS = (32, 64, 128, 256)

Tensor: TypeAlias = ttnn.Tensor
KV = tuple[Tensor, Tensor]
Rotary = tuple[Tensor, Tensor]

# UnaryWithParam of activations that a product is fused with.
GELU_TANH = ttnn.UnaryWithParam(ttnn.UnaryOpType.GELU_TANH)
SILU = ttnn.UnaryWithParam(ttnn.UnaryOpType.SILU)


def tiles(length: int) -> int:
    """Return `length` rounded up to whole tiles."""
    return -(-length // TILE) * TILE


def kernel_config(fidelity: str) -> ttnn.WormholeComputeKernelConfig:
    """Return the settings of a compute kernel that sums in float32."""
    return ttnn.WormholeComputeKernelConfig(
        math_fidelity=getattr(ttnn.MathFidelity, fidelity),
        math_approx_mode=False,
        fp32_dest_acc_en=True,
        packer_l1_acc=True,
    )


# Norms and rotations are a small part of the time and where rounding hurts.
EXACT = kernel_config("HiFi4")


def activation_memory(shape: Sequence[int], device: ttnn.MeshDevice) -> ttnn.MemoryConfig:
    """Return where a bfloat16 activation lies: in L1 if it is small enough, else in DRAM."""
    grid = device.compute_with_storage_grid_size()
    fits = 2 * math.prod(shape) <= L1_SHARE * grid.x * grid.y
    return ttnn.L1_MEMORY_CONFIG if fits else ttnn.DRAM_MEMORY_CONFIG


def matmul_config(rows: int, columns: int, grid: ttnn.CoreCoord) -> ttnn.MinimalMatmulConfig:
    """Return the blocks of a product of so many row and column tiles, each spread over one axis of the grid."""
    across_rows, across_columns = (grid.x, grid.y) if rows > columns else (grid.y, grid.x)
    row_block = min(-(-rows // across_rows), ROW_BLOCK)
    column_block = min(-(-columns // across_columns), COLUMN_BLOCK)
    # Four tiles in float32 are what the registers hold.
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
    """x @ weight + bias, with a fused activation. The weight is stored [inputs, outputs]."""

    weight: Tensor
    bias: Tensor | None
    config: ttnn.WormholeComputeKernelConfig
    activation: ttnn.UnaryWithParam | None = None

    def __call__(self, x: Tensor | list[Tensor]) -> Tensor:
        """Multiply x, or two parts of its last axis that need not be joined."""
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
    """Return hidden + branch, in the memory of `hidden`: a residual stream takes the cores' L1 once."""
    return ttnn.add(hidden, branch, output_tensor=hidden)


def attend(
    query: Tensor, kv: KV, config: ttnn.WormholeComputeKernelConfig, scale: float, mask: Tensor | None = None
) -> Tensor:
    """Let queries [batch, heads, queries, head_dim] attend to `kv` under an additive mask [1, 1, queries, keys]."""
    batch, heads, queries, _ = query.padded_shape
    grid = query.device().compute_with_storage_grid_size()
    # Large chunks re-read keys and values less often, small ones keep more cores at work.
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
