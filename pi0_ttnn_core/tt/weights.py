"""A checkpoint's weights on the device: padded, fused and folded in torch, once, before the first inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import ttnn
from torch import Tensor

from pi0_ttnn_core.tt.common import Linear, kernel_config, tiles
from pi0_ttnn_core.tt.precision import PartPrecision


@dataclass(frozen=True)
class WeightSource:
    """Where weights come from and go to. `read` returns a tensor by our full name, in the stored dtype."""

    read: Callable[[str], Tensor]
    device: ttnn.MeshDevice


@dataclass(frozen=True)
class Weights:
    """The tensors of one part of the model, by names that start with `prefix`."""

    source: WeightSource
    part: PartPrecision
    prefix: str = ""

    @property
    def device(self) -> ttnn.MeshDevice:
        return self.source.device

    def of(self, name: str) -> Weights:
        """Return the weights below `name`."""
        return replace(self, prefix=f"{self.prefix}{name}.")

    def tensor(self, name: str) -> Tensor:
        """Return a weight in torch, float32."""
        return self.source.read(self.prefix + name).float()

    def linear(self, name: str, activation: str | None = None, bias: bool = True) -> Linear:
        """Return a linear layer as it is stored."""
        return self.linear_of(self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias") if bias else None, activation)

    def linear_of(self, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> Linear:
        """Return a linear layer of weight [outputs, inputs] and bias [outputs]."""
        return Linear(
            to_device(weight.T, self.device, getattr(ttnn, self.part.weights)),
            None if bias is None else to_device(bias[None], self.device),
            kernel_config(self.part.fidelity),
            activation,
        )

    def vector(self, values: Tensor) -> ttnn.Tensor:
        """Return [width] on the device as [1, 1, 1, width]."""
        return to_device(values[None, None, None], self.device)


def to_device(values: Tensor, device: ttnn.MeshDevice, dtype: ttnn.DataType = ttnn.bfloat16) -> ttnn.Tensor:
    """Return a tensor in tiles in the device's DRAM."""
    return ttnn.from_torch(values.contiguous(), dtype=dtype, layout=ttnn.TILE_LAYOUT, device=device)


def pad_heads(weight: Tensor, heads: int, axis: int) -> Tensor:
    """Pad each head's part of `axis` with zeros to whole tiles."""
    weight = weight.movedim(axis, 0).unflatten(0, (heads, -1))
    head_dim = weight.shape[1]
    padding = [0, 0] * (weight.dim() - 2) + [0, tiles(head_dim) - head_dim]
    return torch.nn.functional.pad(weight, padding).flatten(0, 1).movedim(0, axis)


def concatenated(parts: Sequence[Tensor]) -> Tensor:
    """Return several projections of one input as one."""
    return torch.cat(list(parts), dim=0)
