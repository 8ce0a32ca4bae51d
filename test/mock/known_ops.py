"""Capture ops of known cost on a mock Wormhole, and write their modelled costs as JSON: `known_ops.py FILE`.

This is a separate program because TTNN chooses its device when it is imported.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from pi0_ttnn_core.configs import CONFIGS
from pi0_ttnn_core.profiling.graph import read_graph
from pi0_ttnn_core.profiling.report import cost
from pi0_ttnn_core.profiling.roofline import busy_cores
from pi0_ttnn_core.wormhole import select_mock_wormhole

folder = tempfile.TemporaryDirectory()
select_mock_wormhole("8x8", Path(folder.name))

import ttnn

from pi0_ttnn_core.profiling.capture import capture
from pi0_ttnn_core.tt.common import kernel_config
from pi0_ttnn_core.tt.kernels.expert_linear import ExpertLinear
from pi0_ttnn_core.tt.runtime.device import open_device

device = open_device(CONFIGS["tiny"], num_steps=10)
DRAM, L1 = ttnn.DRAM_MEMORY_CONFIG, ttnn.L1_MEMORY_CONFIG
HIFI4 = kernel_config("HiFi4")


def empty(*shape, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, place=DRAM):
    return ttnn.empty(shape, dtype=dtype, layout=layout, device=device, memory_config=place)


rows, weight = empty(1, 1, 64, 1024), empty(1024, 2048, dtype=ttnn.bfloat8_b)
rows_in_l1 = empty(1, 1, 64, 1024, place=L1)
long, wide = empty(1, 1, 832, 2048), empty(2048, 16384, dtype=ttnn.bfloat8_b)
queries, keys, mask = empty(1, 8, 64, 256), empty(1, 1, 896, 256), empty(1, 1, 64, 896)
tokens = empty(1, 64, dtype=ttnn.uint32, layout=ttnn.ROW_MAJOR_LAYOUT)
table = empty(4096, 256, layout=ttnn.ROW_MAJOR_LAYOUT)


def project_heads():
    heads, weight = empty(1, 8, 64, 256), empty(2048, 1024, dtype=ttnn.bfloat8_b)
    ExpertLinear(weight, ttnn.MathFidelity.HiFi4).residual(heads, rows)


def transposed_half():
    """Multiply by the second half of the columns of a weight, transposed."""
    halves, weight = empty(1, 1, 64, 2048), empty(1024, 4096, dtype=ttnn.bfloat8_b)
    ExpertLinear(weight, ttnn.MathFidelity.HiFi4).transposed(halves, first=2048)


def attend():
    ttnn.transformer.scaled_dot_product_attention(queries, keys, keys, attn_mask=mask, is_causal=False, scale=1.0)


def too_large_buffers():
    program = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(8, 8),
        in0_block_w=64,
        out_subblock_h=1,
        out_subblock_w=1,
        per_core_M=4,
        per_core_N=64,
        transpose_mcast=False,
        fused_activation=None,
    )
    ttnn.matmul(long, wide, program_config=program)


CASES = {
    "linear": lambda: ttnn.linear(rows, weight, dtype=ttnn.bfloat16, compute_kernel_config=HIFI4),
    "linear, activations in L1": lambda: ttnn.linear(rows_in_l1, weight, memory_config=L1),
    "linear with activation": lambda: ttnn.linear(rows, weight, activation="silu"),
    "compute-bound linear": lambda: ttnn.linear(long, wide, compute_kernel_config=HIFI4),
    "minimal_matmul": lambda: ttnn.experimental.minimal_matmul(rows, weight, compute_kernel_config=HIFI4),
    "attention": attend,
    "embedding": lambda: ttnn.embedding(tokens, table, layout=ttnn.TILE_LAYOUT),
    "fill_cache": lambda: ttnn.fill_cache(keys, empty(1, 1, 64, 256), batch_idx=0, update_idx=832),
    "in place": lambda: ttnn.add_(rows, rows_in_l1),
    "our own kernel": project_heads,
    "our own kernel, transposed": transposed_half,
    "first factor transposed": lambda: ttnn.matmul(empty(1, 1, 512, 64), empty(1, 1, 512, 256), transpose_a=True),
    "second factor transposed": lambda: ttnn.matmul(empty(1, 1, 512, 256), keys, transpose_b=True),
    "transfers": lambda: (ttnn.zeros((32, 32), device=device, layout=ttnn.TILE_LAYOUT), ttnn.to_torch(rows)),
    "too much in L1": lambda: ttnn.to_memory_config(empty(1, 1, 8192, 8192), L1),
    "too large buffers": too_large_buffers,
}


def measure(run):
    try:
        graph = read_graph(capture(run))
    except RuntimeError as error:
        return {"refused": str(error)}
    total = cost(graph, 0, ttnn.get_memory_view(device, ttnn.BufferType.L1).total_bytes_free_per_bank)
    return {
        "ops": [op.name for op in graph.ops],
        "cores": [busy_cores(op) for op in graph.ops],
        "transfers": total.transfers_inside,
        "flops": total.flops,
        "bytes": total.bytes,
        "ms": total.roofline_ms,
        "l1": total.l1_bytes,
        "l1_limit": total.l1_limit_bytes,
        "activations": total.dram_bytes,
    }


with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump({name: measure(run) for name, run in CASES.items()}, file)
ttnn.close_device(device)
