"""The expert's linear layers, each fused with the operations around it into one program on the device.

The expert runs at every Euler step over few rows, so its time is the time to read its weights, and any operation
between two products would leave the memory idle. Therefore a product is one program with the norm before it and the
rotary embedding, the GeGLU or the residual after it. The columns of the weight are distributed over the cores. Products
are accumulated in float32 over the whole width, and what follows is computed in float32 too.

A vector that all rows share is [1, 1, 32, width] with equal rows: a row of tiles that needs no broadcast.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import ttnn

from pi0_ttnn_core.tt.common import KV, RMS_NORM_EPS, TILE, Rotary, Tensor

KERNELS = Path(__file__).parent
INPUT, WEIGHTS, COMPUTE = (
    (KERNELS / f"expert_linear_{name}.cpp").read_text() for name in ("input", "weights", "compute")
)
# Most tiles along the inner dimension that are read at once.
INNER_BLOCK = 16
# A unit of work is one column of tiles.
SINGLE = {"columns": 1, "weight_columns": 1}


@dataclass(frozen=True)
class Modulation:
    """An adaptive norm before a product: x / rms(x) * scale @ weight + bias.

    Attributes:
        scale: [1, 1, 32, inputs], with equal rows.
        bias: shift @ weight, [1, 1, 32, outputs], with equal rows.
    """

    scale: Tensor
    bias: Tensor


@dataclass(frozen=True)
class ExpertLinear:
    """A linear layer of the expert.

    Attributes:
        weight: [inputs, outputs].
        fidelity: math fidelity of the product.
    """

    weight: Tensor
    fidelity: ttnn.MathFidelity

    def rotary(self, x: Tensor, rotary: Rotary, cache: KV, modulation: Modulation | None = None) -> Tensor:
        """Project RMS-normed rows [1, 1, rows, inputs] to heads of queries, keys and values, in this order.

        Return the rotated queries [1, heads, rows, head_dim]. Write the rotated keys and the values into the last rows
        of the cache [1, kv_heads, tokens, head_dim].
        """
        _, kv_heads, tokens, head_dim = cache[0].padded_shape
        heads = self.weight.padded_shape[-1] // head_dim
        half = head_dim // 2 // TILE
        query_heads = heads - 2 * kv_heads
        query = _empty((1, query_heads, x.shape[-2], head_dim), x)
        sizes = {
            "half_head": half,
            "query_heads": query_heads,
            "kv_heads": kv_heads,
            "cache_rows": tokens // TILE,
            "cache_start": (tokens - x.padded_shape[-2]) // TILE,
            "rotated_units": (query_heads + kv_heads) * half,
            "group": half,
            "group_stride": 2 * half,
            "pair_stride": half,
            "rotary_width": 2 * half,
            "columns": 2,
            "weight_columns": 2,
        }
        scale, bias = _parts(modulation)
        self._run(x, heads * half, sizes, query, norm=True, scale=scale, bias=bias, rotary=rotary, cache=cache)
        return query

    def geglu(self, x: Tensor, modulation: Modulation | None = None) -> Tensor:
        """Return gelu(gate) * up of RMS-normed rows, [1, 1, rows, outputs / 2]; the weight is gate's, then up's."""
        units = self.weight.padded_shape[-1] // 2 // TILE
        out = _empty((1, 1, x.shape[-2], units * TILE), x)
        sizes = {"pair_stride": units, "columns": 1, "weight_columns": 2, "has_geglu": 1}
        scale, bias = _parts(modulation)
        self._run(x, units, sizes, out, norm=True, scale=scale, bias=bias)
        return out

    def normed(self, x: Tensor, modulation: Modulation | None = None) -> Tensor:
        """Return the product of RMS-normed rows and the weight, [1, 1, rows, outputs]."""
        units = self.weight.padded_shape[-1] // TILE
        out = _empty((1, 1, x.shape[-2], units * TILE), x)
        scale, bias = _parts(modulation)
        self._run(x, units, SINGLE, out, norm=True, scale=scale, bias=bias)
        return out

    def residual(self, x: Tensor, residual: Tensor, gate: Tensor | None = None) -> Tensor:
        """Return residual + gate * (x @ weight) for rows [1, 1, rows, inputs] or heads [1, heads, rows, head_dim]."""
        out = _empty(tuple(residual.padded_shape), x)
        units = self.weight.padded_shape[-1] // TILE
        self._run(x, units, SINGLE, out, gate=gate, residual=residual)
        return out

    def transposed(
        self,
        x: Tensor,
        first: int = 0,
        scale: Tensor | None = None,
        gate: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        """Return residual + gate * ((x * scale) @ weight.T), [1, 1, rows, inputs], for rows or heads as in `residual`.

        Only the weight's columns from `first` on are used, as many as x has. `first` is a multiple of a tile.
        """
        units = self.weight.padded_shape[-2] // TILE
        out = _empty((1, 1, x.shape[-2], units * TILE), x)
        sizes = {**SINGLE, "first_inner": first // TILE, "transposed": 1}
        self._run(x, units, sizes, out, scale=scale, gate=gate, residual=residual)
        return out

    def transposed_heads(self, x: Tensor, head_dim: int, scale: Tensor | None = None) -> Tensor:
        """Return (x * scale) @ weight.T as heads, [1, heads, rows, head_dim]."""
        half = head_dim // 2 // TILE
        heads = self.weight.padded_shape[-2] // head_dim
        out = _empty((1, heads, x.shape[-2], head_dim), x)
        sizes = {
            "half_head": half,
            "query_heads": heads,
            "group": half,
            "group_stride": 2 * half,
            "pair_stride": half,
            "columns": 2,
            "weight_columns": 2,
            "transposed": 1,
        }
        self._run(x, heads * half, sizes, out, scale=scale)
        return out

    def _run(
        self,
        x: Tensor,
        units: int,
        sizes: dict[str, int],
        out: Tensor,
        norm: bool = False,
        scale: Tensor | None = None,
        bias: Tensor | None = None,
        rotary: Rotary | None = None,
        cache: KV | None = None,
        gate: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> None:
        cos, sin = rotary or (None, None)
        key, value = cache or (None, None)
        row_tiles, inner = x.padded_shape[-2] // TILE, x.padded_shape[1] * x.padded_shape[-1] // TILE
        rows = 2 if row_tiles % 2 == 0 else 1
        arguments = {
            "rows": rows,
            "row_blocks": row_tiles // rows,
            "inner": inner,
            "inner_block": next(block for block in range(min(INNER_BLOCK, inner), 0, -1) if inner % block == 0),
            "head_width": x.padded_shape[-1] // TILE,
            "first_inner": 0,
            "weight_width": self.weight.padded_shape[-1] // TILE,
            "out_width": out.padded_shape[-1] // TILE,
            "half_head": 1,
            "query_heads": 0,
            "kv_heads": 0,
            "cache_rows": 0,
            "cache_start": 0,
            "rotated_units": 0,
            "group": units,
            "group_stride": 0,
            "pair_stride": 0,
            "rotary_width": 0,
            "transposed": 0,
            "inverse_width": _bits(1.0 / self.weight.shape[-2]),
            "epsilon": _bits(RMS_NORM_EPS),
            "has_norm": int(norm),
            "has_scale": int(scale is not None),
            "has_bias": int(bias is not None),
            "has_rotary": int(rotary is not None),
            "has_geglu": 0,
            "has_gate": int(gate is not None),
            "has_residual": int(residual is not None),
            **sizes,
        }
        program = _program(
            units,
            arguments,
            self,
            inputs=(x, scale, out, key, value),
            weights=(self.weight, bias, cos, sin, gate, residual),
        )
        # The cache is not listed: a few of its rows are written in place.
        tensors = [tensor for tensor in (x, self.weight, scale, bias, cos, sin, gate, residual) if tensor is not None]
        ttnn.generic_op([*tensors, out], program)


def _parts(modulation: Modulation | None) -> tuple[Tensor | None, Tensor | None]:
    return (modulation.scale, modulation.bias) if modulation else (None, None)


def _program(
    units: int,
    arguments: dict[str, int],
    linear: ExpertLinear,
    inputs: tuple[Tensor | None, ...],
    weights: tuple[Tensor | None, ...],
) -> ttnn.ProgramDescriptor:
    grid = linear.weight.device().compute_with_storage_grid_size()
    count = min(units, grid.x * grid.y)
    cores = ttnn.num_cores_to_corerangeset(count, grid, True)
    input_args, weight_args, compute_args = ttnn.RuntimeArgs(), ttnn.RuntimeArgs(), ttnn.RuntimeArgs()
    first = 0
    for index, core in enumerate(ttnn.corerange_to_cores(cores, count, True)):
        span = [first, units // count + (index < units % count)]
        input_args[core.x][core.y] = [*span, *map(_address, inputs)]
        weight_args[core.x][core.y] = [*span, *map(_address, weights)]
        compute_args[core.x][core.y] = span
        first += span[1]

    def kernel(
        source: str, tensors: tuple[Tensor | None, ...], runtime_args: ttnn.RuntimeArgs, config: object
    ) -> ttnn.KernelDescriptor:
        accessors = [
            value
            for tensor in tensors
            for value in ttnn.TensorAccessorArgs(linear.weight if tensor is None else tensor).get_compile_time_args()
        ]
        return ttnn.KernelDescriptor(
            kernel_source=source,
            source_type=ttnn.KernelDescriptor.SourceType.SOURCE_CODE,
            core_ranges=cores,
            compile_time_args=accessors,
            named_compile_time_args=list(arguments.items()),
            runtime_args=runtime_args,
            config=config,
        )

    compute = ttnn.ComputeConfigDescriptor(
        math_fidelity=linear.fidelity, fp32_dest_acc_en=True, dst_full_sync_en=True, math_approx_mode=False
    )
    return ttnn.ProgramDescriptor(
        kernels=[
            kernel(INPUT, inputs, input_args, ttnn.ReaderConfigDescriptor()),
            kernel(WEIGHTS, weights, weight_args, ttnn.WriterConfigDescriptor()),
            kernel(COMPUTE, (), compute_args, compute),
        ],
        cbs=_buffers(arguments, linear.weight.dtype, cores),
    )


def _buffers(
    arguments: dict[str, int], weight_dtype: ttnn.DataType, cores: ttnn.CoreRangeSet
) -> list[ttnn.CBDescriptor]:
    rows, inner, weight_columns = arguments["rows"], arguments["inner"], arguments["weight_columns"]
    operands = (
        arguments["has_bias"] * weight_columns
        + arguments["has_rotary"] * 2 * rows
        + arguments["has_gate"]
        + arguments["has_residual"] * rows
    )
    bfloat16, float32 = ttnn.bfloat16, ttnn.float32
    buffers = {  # number: (tiles, dtype); the numbers are the cb_* constants of the kernels
        0: (rows * inner, bfloat16),
        1: (3 * arguments["inner_block"] * weight_columns, weight_dtype),
        2: (2 * operands, bfloat16),
        3: (arguments["has_norm"], bfloat16),
        4: (arguments["has_scale"] * inner, bfloat16),
        5: (arguments["has_norm"] * rows, float32),
        6: (arguments["has_norm"] * rows, float32),
        7: (arguments["has_scale"] * rows * inner, bfloat16),
        16: (2 * rows * arguments["columns"], bfloat16),
    }
    return [
        ttnn.CBDescriptor(
            total_size=tiles * ttnn.tile_size(dtype),
            core_ranges=cores,
            format_descriptors=[
                ttnn.CBFormatDescriptor(buffer_index=number, data_format=dtype, page_size=ttnn.tile_size(dtype))
            ],
        )
        for number, (tiles, dtype) in buffers.items()
        if tiles
    ]


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return ttnn.allocate_tensor_on_device(
        ttnn.Shape(shape), ttnn.bfloat16, ttnn.TILE_LAYOUT, like.device(), ttnn.L1_MEMORY_CONFIG
    )


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.buffer_address()


def _bits(value: float) -> int:
    return int(struct.unpack("I", struct.pack("f", value))[0])
