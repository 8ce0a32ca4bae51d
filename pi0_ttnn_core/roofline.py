"""A model of an op's time on a Wormhole n150: the larger of computing at peak and moving its tensors at peak.

It knows no latency, no launch and no imperfect kernel, so a card is slower. Elementwise ops compute for nothing.
"""

from __future__ import annotations

import math
import re

from pi0_ttnn_core.graph import DeviceOp

# FLOP/s of the whole board of 72 cores, by math fidelity. HiFi3 takes three passes over the operands, HiFi4 four.
BOARD_CORES = 72
PEAK_FLOPS = {"LoFi": 262e12, "HiFi2": 148e12, "HiFi3": 99e12, "HiFi4": 74e12}
DRAM_BANDWIDTH = 288e9

TILE = 32
# Our own kernels, products of the expert; their fidelity, which the graph does not tell, is that of the slowest preset.
OWN = "GenericOpDeviceOperation"
OWN_FIDELITY = "HiFi4"
MATMULS = ("MatmulDeviceOperation", "MinimalMatmulDeviceOperation", OWN)
ATTENTION = "SDPAOperation"
# Rows of queries that a core takes at a time where the op is not told.
DEFAULT_QUERY_CHUNK = 32


def flops(op: DeviceOp) -> int:
    """Return 2 M K N of a matrix product, 4 heads queries keys head_dim of attention, in whole tiles; else 0."""
    if op.name in MATMULS:
        # The rows of all heads, where the input is heads, are one row of the product.
        rows, columns = _output_tiles(op)
        return 2 * rows * columns * TILE**2 * _padded(op.inputs[1].shape[-2])
    if op.name == ATTENTION:
        (batch, heads, queries, head_dim), keys = op.inputs[0].shape, op.inputs[1].shape[2]
        return 4 * batch * heads * _padded(queries) * _padded(keys) * _padded(head_dim)
    return 0


def dram_bytes(op: DeviceOp) -> int:
    """Return the bytes from and to DRAM, each tensor once. Tensors in L1 cost nothing."""
    inputs, written = op.inputs, sum(output.dram_size for output in op.outputs)
    if op.name == "EmbeddingsDeviceOperation":
        # Of the table only the rows that are looked up.
        rows = sum(output.size for output in op.outputs)
        return inputs[0].dram_size + min(inputs[1].dram_size, rows) + written
    if op.name == "SliceDeviceOperation":
        return min(inputs[0].dram_size, sum(output.size for output in op.outputs)) + written
    if op.name == "UpdateKVCacheOperation":
        cache, values = inputs
        return values.dram_size + min(cache.dram_size, values.size)
    if op.name == "SliceWriteDeviceOperation":
        values, target = inputs
        return values.dram_size + min(target.dram_size, values.size)
    if op.name in ("CopyDeviceOperation", "GenericOpDeviceOperation") and not op.outputs:
        # The last tensor is written, not read.
        return sum(tensor.dram_size for tensor in inputs)
    if not op.outputs:
        # In place: the first tensor is both read and written.
        return sum(tensor.dram_size for tensor in inputs) + inputs[0].dram_size
    return sum(tensor.dram_size for tensor in inputs) + written


def busy_cores(op: DeviceOp) -> int:
    """Return the cores that have work, which may be fewer than those with buffers."""
    columns, rows = op.grid
    if op.name == "MinimalMatmulDeviceOperation":
        # The rows of the product go over one axis of the grid, its columns over the other.
        height, width = _output_tiles(op)
        return max(_shared(height, rows) * _shared(width, columns), _shared(height, columns) * _shared(width, rows))
    if op.name == ATTENTION:
        batch, heads, queries, _ = op.inputs[0].shape
        return _shared(batch * heads * math.ceil(queries / _query_chunk(op)), len(op.buffers))
    return len(op.buffers)


def roofline(op: DeviceOp) -> float:
    """Return the modelled time in seconds."""
    return max(compute_time(op), dram_bytes(op) / DRAM_BANDWIDTH)


def compute_time(op: DeviceOp) -> float:
    work = flops(op)
    return work / (PEAK_FLOPS[op.fidelity or OWN_FIDELITY] * busy_cores(op) / BOARD_CORES) if work else 0.0


def _padded(size: int) -> int:
    return -(-size // TILE) * TILE


def _output_tiles(op: DeviceOp) -> tuple[int, int]:
    *batch, rows, width = op.inputs[0].shape
    heads = op.inputs[1].shape[-2] // width if op.name == OWN else 1
    return math.prod(batch) // heads * math.ceil(rows / TILE), math.ceil(op.inputs[1].shape[-1] / TILE)


def _shared(pieces: int, cores: int) -> int:
    """Return how many of `cores` have work, where each takes the same number of pieces but the last."""
    return math.ceil(pieces / math.ceil(pieces / cores))


def _query_chunk(op: DeviceOp) -> int:
    # SDPAProgramConfig(grid, sub-grids, rows of queries, rows of keys, ...)
    found = re.search(r"SDPAProgramConfig\(<\w+>, [^,]+, (\d+), (\d+)", op.attributes)
    return int(found.group(1)) if found else DEFAULT_QUERY_CHUNK
