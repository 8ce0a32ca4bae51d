"""What all parts of the model share: linear layers, kernel settings, tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import ttnn

from pi0_ttnn_core.tt.precision import PartPrecision

TILE = 32
# As good as minus infinity where logits are added in bfloat16, and far from its end.
MASKED_LOGIT = -1e9

Tensor: TypeAlias = ttnn.Tensor
KV = tuple[Tensor, Tensor]
Rotary = tuple[Tensor, Tensor]


def tiles(length: int) -> int:
    """Return `length` rounded up to whole tiles."""
    return -(-length // TILE) * TILE


def kernel_config(fidelity: str, fp32_accumulation: bool = False) -> ttnn.WormholeComputeKernelConfig:
    """Return the settings of a compute kernel."""
    return ttnn.WormholeComputeKernelConfig(
        math_fidelity=getattr(ttnn.MathFidelity, fidelity),
        math_approx_mode=False,
        fp32_dest_acc_en=fp32_accumulation,
        packer_l1_acc=True,
    )


# Norms are a small part of the time and where rounding hurts.
NORM_CONFIG = kernel_config("HiFi4")


@dataclass(frozen=True)
class Linear:
    """x @ weight + bias, with a fused activation. The weight is stored [inputs, outputs]."""

    weight: Tensor
    bias: Tensor | None
    config: ttnn.WormholeComputeKernelConfig
    activation: str | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return ttnn.linear(
            x,
            self.weight,
            bias=self.bias,
            activation=self.activation,
            dtype=ttnn.bfloat16,
            compute_kernel_config=self.config,
        )


def attention_config(part: PartPrecision) -> ttnn.WormholeComputeKernelConfig:
    """Return the settings of attention, which loses accuracy before linear layers do."""
    return kernel_config("HiFi2" if part.fidelity == "LoFi" else part.fidelity)
