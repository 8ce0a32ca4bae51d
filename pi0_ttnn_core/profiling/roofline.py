"""Roofline model of an op on a Wormhole n150: the larger of its computing time and its DRAM time, both at peak.

A card is slower: the model ignores latencies, launches and imperfect kernels. Elementwise ops count as DRAM traffic
only. Custom kernels (ttnn.generic_op), of which the graph contains only the tensors, count as products of the expert.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

from pi0_ttnn_core.profiling.graph import DeviceOp, TensorInfo

# FLOP/s of the whole board of 72 cores, by math fidelity. HiFi3 takes three passes over the operands, HiFi4 four.
BOARD_CORES = 72
PEAK_FLOPS = {"LoFi": 262e12, "HiFi2": 148e12, "HiFi3": 99e12, "HiFi4": 74e12}
DRAM_BANDWIDTH = 288e9  # B/s

TILE = 32
# Our own kernels, the products of the expert. The graph does not contain their fidelity: that of the slowest preset is
# assumed.
CUSTOM_KERNEL = "GenericOpDeviceOperation"
CUSTOM_FIDELITY = "HiFi4"
MATMULS = ("MatmulDeviceOperation", "MinimalMatmulDeviceOperation", CUSTOM_KERNEL)
ATTENTION = "SDPAOperation"
# Ops that access only a part of a tensor -> indices, among inputs and outputs, of a tensor as large as the part, and of
# the whole tensor.
PARTIAL = {
    "EmbeddingsDeviceOperation": (-1, 1),
    "SliceDeviceOperation": (-1, 0),
    "UpdateKVCacheOperation": (1, 0),
    "SliceWriteDeviceOperation": (0, 1),
}
# Ops that write into an input without reading it.
WRITES_LAST = ("CopyDeviceOperation", "GenericOpDeviceOperation")
# Rows of queries that a core processes at a time if the op's attributes do not say.
DEFAULT_QUERY_CHUNK = 32


def flops(op: DeviceOp) -> int:
    """Return FLOPs in whole tiles: 2 M K N of a product, 4 heads queries keys head_dim of attention, otherwise 0."""
    if op.name in MATMULS:
        return 2 * math.prod(_product(op)) * TILE**3
    if op.name == ATTENTION:
        (batch, heads, queries, head_dim), keys = op.inputs[0].shape, op.inputs[1].shape[2]
        return 4 * batch * heads * _padded(queries) * _padded(keys) * _padded(head_dim)
    return 0


def dram_bytes(op: DeviceOp) -> int:
    """Return the bytes read from and written to DRAM, each tensor once. Tensors in L1 cost nothing."""
    if op.name in PARTIAL:
        return _partial_bytes(op)
    written = op.outputs or op.inputs[-1:]
    read = op.inputs if op.outputs else op.inputs[:-1] or op.inputs
    if op.name == CUSTOM_KERNEL:
        read = [_read_of_weight(op), *(tensor for tensor in read if tensor.buffer != op.inputs[1].buffer)]
    if op.name in WRITES_LAST and not op.outputs:
        read = [tensor for tensor in read if tensor.buffer != op.inputs[-1].buffer]
    return sum(tensor.dram_size for tensor in {tensor.buffer: tensor for tensor in read}.values()) + sum(
        tensor.dram_size for tensor in written
    )


def _partial_bytes(op: DeviceOp) -> int:
    """Return the bytes of an op that accesses only as much of its large tensor as its small one holds."""
    small, large = PARTIAL[op.name]
    tensors = [*op.inputs, *op.outputs]
    part = tensors[small]
    indices = sum(tensor.dram_size for tensor in op.inputs if tensor not in (part, tensors[large]))
    return indices + part.dram_size + (min(part.size, tensors[large].size) if tensors[large].in_dram else 0)


def busy_cores(op: DeviceOp) -> int:
    """Return the number of cores that have work, which may be fewer than those with buffers."""
    columns, rows = op.grid
    if op.name == "MinimalMatmulDeviceOperation":
        # Rows of the product are spread over one axis of the grid, its columns over the other.
        height, _, width = _product(op)
        return max(
            _cores_used(height, rows) * _cores_used(width, columns),
            _cores_used(height, columns) * _cores_used(width, rows),
        )
    if op.name == ATTENTION:
        batch, heads, queries, _ = op.inputs[0].shape
        return _cores_used(batch * heads * math.ceil(queries / _query_chunk(op)), len(op.buffers))
    return len(op.buffers)


def roofline(op: DeviceOp) -> float:
    """Return the modelled time, s."""
    return max(compute_time(op), dram_bytes(op) / DRAM_BANDWIDTH)


def compute_time(op: DeviceOp) -> float:
    """Return the time to compute at peak on the cores that have work, s."""
    work = flops(op)
    return work / (PEAK_FLOPS[op.fidelity or CUSTOM_FIDELITY] * busy_cores(op) / BOARD_CORES) if work else 0.0


def _tiles(size: int) -> int:
    return math.ceil(size / TILE)


def _padded(size: int) -> int:
    return _tiles(size) * TILE


def _product(op: DeviceOp) -> tuple[int, int, int]:
    """Return rows, inner size and columns of a matrix product, in tiles."""
    *batch, rows, width = op.inputs[0].shape
    rows, width = _tiles(rows), _tiles(width)
    inner, columns = map(_tiles, op.inputs[1].shape[-2:])
    if op.name == CUSTOM_KERNEL:
        # If the input is heads, they are concatenated along the width; a weight that does not fit is transposed.
        width *= math.prod(batch)
        return rows, width, columns if width == inner else inner
    # MatmulParams(..., whether the first factor is transposed, whether the second is, Tile(...), ...)
    transposed = re.search(r", ([01]), ([01]), Tile\(", op.attributes)
    transpose_a, transpose_b = (flag == "1" for flag in transposed.groups()) if transposed else (False, False)
    if transpose_b:
        inner, columns = columns, inner
    return math.prod(batch) * (width if transpose_a else rows), inner, columns


def _read_of_weight(op: DeviceOp) -> TensorInfo:
    """Return the weight of one of our own kernels, with the size of the part that is read."""
    _, inner, columns = _product(op)
    weight = op.inputs[1]
    stored = math.prod(map(_tiles, weight.shape[-2:]))
    return replace(weight, size=weight.size * inner * columns // stored)


def _cores_used(pieces: int, cores: int) -> int:
    """Return how many of `cores` have work if each but the last takes the same number of pieces."""
    return math.ceil(pieces / math.ceil(pieces / cores))


def _query_chunk(op: DeviceOp) -> int:
    # SDPAProgramConfig(grid, sub-grids, rows of queries, rows of keys, ...)
    found = re.search(r"SDPAProgramConfig\(<\w+>, [^,]+, (\d+), (\d+)", op.attributes)
    return int(found.group(1)) if found else DEFAULT_QUERY_CHUNK
