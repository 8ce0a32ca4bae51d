"""Vector-Jacobian products of the action expert, written by hand: TTNN has no autograd.

Each `*_vjp` function returns a part's output and its vjp, which maps a gradient of the output to the gradient of the
input. Weights and the prefix's keys and values are constants. The forward pass is that of `expert.py`. Of it only the
residual stream and the queries are saved; the rest is recomputed. Products with a transposed weight read the weight of
the forward pass, into which the norm is folded. Rows are laid out as in `gemma.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ttnn

from pi0_ttnn_core.tt.common import (
    EXACT,
    GELU_TANH,
    KV,
    RMS_NORM_EPS,
    TILE,
    Rotary,
    Tensor,
    activation_memory,
)
from pi0_ttnn_core.tt.expert import ExpertDecoderBlockTTNN, GemmaExpertTTNN
from pi0_ttnn_core.tt.gemma import GemmaRMSNormTTNN, GemmaRotaryEmbeddingTTNN

Vjp = Callable[[Tensor], Tensor]

# Most tiles of both factors of a product that a core holds at once.
MAX_FACTOR_TILES = 160
RSQRT = ttnn.UnaryWithParam(ttnn.UnaryOpType.RSQRT)


@dataclass(frozen=True)
class Suffix:
    """What all blocks of the expert share in one Euler step.

    Attributes:
        rotary: the rotary tables of the rows.
        inverse_rotary: the tables that rotate back.
        mask: additive, [1, 1, rows, keys].
        memory_config: where tensors are saved for the backward pass.
        step: number of the Euler step, for adaptive norms.
    """

    rotary: Rotary
    inverse_rotary: Rotary
    mask: Tensor
    memory_config: ttnn.MemoryConfig
    step: int


def expert_vjp(expert: GemmaExpertTTNN, hidden: Tensor, suffix: Suffix, cache: list[KV]) -> tuple[Tensor, Vjp]:
    """Return the normed output of `hidden` [1, 1, rows, width] and its vjp, which can be called only once."""
    vjps: list[Vjp] = []
    for block, kv in zip(expert.layers, cache, strict=True):
        hidden, vjp_of_block = block_vjp(block, hidden, suffix, kv)
        vjps.append(vjp_of_block)
    norm = expert.norm
    scale = norm.weight if isinstance(norm, GemmaRMSNormTTNN) else norm.scales[suffix.step]

    def vjp(grad: Tensor) -> Tensor:
        grad = _norm_backward(hidden, ttnn.mul(grad, scale))
        while vjps:
            # Popped, so that what a block has saved is freed.
            grad = vjps.pop()(grad)
        return grad

    return norm(hidden, suffix.step), vjp


def block_vjp(block: ExpertDecoderBlockTTNN, hidden: Tensor, suffix: Suffix, cache: KV) -> tuple[Tensor, Vjp]:
    """Return a block's output for `hidden` and its vjp; write its keys and values into the last rows of the cache."""
    query = block.query(hidden, suffix.rotary, cache, suffix.step)
    attended = block.attend(query, hidden, suffix.mask, cache, suffix.step)
    saved = [ttnn.to_memory_config(x, suffix.memory_config) for x in (hidden, query, attended)]

    def vjp(grad: Tensor) -> Tensor:
        hidden, query, attended = saved
        grad = _mlp_backward(block, attended, suffix.step, grad)
        return _attention_backward(block, hidden, query, suffix, cache, grad)

    return block.mlp(attended, suffix.step), vjp


def _mlp_backward(block: ExpertDecoderBlockTTNN, hidden: Tensor, step: int, grad: Tensor) -> Tensor:
    linear = block.gate_up_proj.linear
    modulation, branch_gate = block.gate_up_proj.modulation(step)
    scale = modulation.scale if modulation else None
    gate, up = _halves(linear.normed(hidden, modulation))
    grad_product = block.down_proj.transposed(grad, scale=branch_gate)
    grad_gate = ttnn.gelu_bw(ttnn.mul(grad_product, up), gate, variant=ttnn.GeluVariant.Tanh)[0]
    grad_up = ttnn.mul(grad_product, gate, input_tensor_b_activations=[GELU_TANH])
    through_gate = linear.transposed(grad_gate, gate=scale)
    grad_normed = linear.transposed(grad_up, first=up.shape[-1], gate=scale, residual=through_gate)
    return _norm_backward(hidden, grad_normed, grad)


def _attention_backward(
    block: ExpertDecoderBlockTTNN, hidden: Tensor, query: Tensor, suffix: Suffix, cache: KV, grad: Tensor
) -> Tensor:
    modulation, branch_gate = block.qkv_proj.modulation(suffix.step)
    grad_attended = block.o_proj.transposed_heads(grad, query.shape[-1], scale=branch_gate)
    grad_query, grad_key, grad_value = attention_backward(query, cache, suffix.mask, grad_attended)
    unrotated = [GemmaRotaryEmbeddingTTNN.rotate(x, suffix.inverse_rotary) for x in (grad_query, grad_key)]
    grad_heads = ttnn.concat([*unrotated, grad_value], dim=1, memory_config=grad.memory_config())
    grad_normed = block.qkv_proj.linear.transposed(grad_heads, gate=modulation.scale if modulation else None)
    return _norm_backward(hidden, grad_normed, grad)


def attention_backward(query: Tensor, cache: KV, mask: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, own keys and own values, given the gradient of attention's output.

    Args:
        query: [1, heads, rows, head_dim]. The scale of the logits is folded into it.
        cache: keys and values [1, kv_heads, keys, head_dim]; the last `rows` are the expert's own.
        mask: additive, [1, 1, rows, keys].
        grad: [1, heads, rows, head_dim].
    """
    _, heads, rows, _ = query.shape
    key, value = cache
    keys = key.shape[-2]
    grad, queries = _grouped(grad, cache), _grouped(query, cache)
    # In bfloat16, the logits would lose too much accuracy.
    logits = _product(queries, key, transpose_b=True, dtype=ttnn.float32)
    logits = ttnn.add(_per_head(logits, heads), mask, dtype=ttnn.float32)
    attention = ttnn.softmax(logits, dim=-1, numeric_stable=True, compute_kernel_config=EXACT)
    del logits
    attention = _grouped(ttnn.clone(attention, dtype=ttnn.bfloat16), cache)
    grad_attention = _product(grad, value, transpose_b=True)
    grad_logits = ttnn.operations.moreh.softmax_backward(attention, grad_attention, 3, compute_kernel_config=EXACT)
    grad_query = _per_head(_product(grad_logits, key), heads)
    own = keys - rows
    grad_key = _product(_columns(grad_logits, own, keys), queries, transpose_a=True)
    grad_value = _product(_columns(attention, own, keys), grad, transpose_a=True)
    return grad_query, grad_key, grad_value


def _norm_backward(hidden: Tensor, grad: Tensor, residual: Tensor | None = None) -> Tensor:
    """Return residual + grad @ d(normed)/d(hidden), where normed = hidden / rms(hidden)."""
    normed = ttnn.rms_norm(hidden, epsilon=RMS_NORM_EPS, compute_kernel_config=EXACT)
    mean_square = ttnn.mean(ttnn.square(hidden), dim=-1, keepdim=True, compute_kernel_config=EXACT)
    inverse_rms = ttnn.add(mean_square, RMS_NORM_EPS, activations=[RSQRT])
    along = ttnn.mean(ttnn.mul(grad, normed), dim=-1, keepdim=True, compute_kernel_config=EXACT)
    across = ttnn.addcmul(grad, normed, along, value=-1.0)
    return ttnn.mul(across, inverse_rms) if residual is None else ttnn.addcmul(residual, across, inverse_rms)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    half = x.shape[-1] // 2
    return _columns(x, 0, half), _columns(x, half, 2 * half)


def _columns(x: Tensor, first: int, end: int) -> Tensor:
    return ttnn.slice(x, [0, 0, 0, first], [*list(x.shape)[:-1], end])


def _grouped(x: Tensor, cache: KV) -> Tensor:
    """Concatenate the rows of heads that share keys: [1, H, rows, D] -> [1, K, H / K * rows, D]."""
    kv_heads = cache[0].shape[1]
    return ttnn.reshape(x, (1, kv_heads, x.shape[1] * x.shape[2] // kv_heads, x.shape[3]))


def _per_head(x: Tensor, heads: int) -> Tensor:
    """Undo `_grouped`: [1, K, H / K * rows, D] -> [1, H, rows, D]."""
    return ttnn.reshape(x, (1, heads, x.shape[1] * x.shape[2] // heads, x.shape[3]))


def _product(
    a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False, dtype: ttnn.DataType = ttnn.bfloat16
) -> Tensor:
    """Return a @ b, [1, kv_heads, rows, columns], summed in float32 over the largest inner blocks that fit."""
    rows, inner = list(a.padded_shape)[-2:][:: -1 if transpose_a else 1]
    columns = b.padded_shape[-2 if transpose_b else -1]
    grid = a.device().compute_with_storage_grid_size()
    height, width, inner = (-(-rows // TILE // grid.y), -(-columns // TILE // grid.x), inner // TILE)
    subblock = next(size for size in (2, 1) if height % size == 0)
    fitting = [
        size for size in range(1, inner + 1) if inner % size == 0 and size * (height + width) <= MAX_FACTOR_TILES
    ]
    program = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=grid,
        in0_block_w=max(fitting),
        out_subblock_h=subblock,
        # The registers hold four float32 tiles.
        out_subblock_w=next(size for size in (4 // subblock, 2, 1) if width % size == 0),
        per_core_M=height,
        per_core_N=width,
        transpose_mcast=False,
        fuse_batch=False,
    )
    return ttnn.matmul(
        a,
        b,
        transpose_a=transpose_a,
        transpose_b=transpose_b,
        program_config=program,
        compute_kernel_config=EXACT,
        dtype=dtype,
        memory_config=activation_memory((a.shape[1], rows, columns * 4), a.device()),
    )
