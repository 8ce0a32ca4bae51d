"""A checkpoint's weights on the device: padded, fused and folded in torch, once, before the first inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import ttnn
from torch import Tensor

from pi0_ttnn_core.configs import GemmaConfig
from pi0_ttnn_core.precision import PartPrecision
from pi0_ttnn_core.tt.common import TILE, Linear, kernel_config, tiles
from pi0_ttnn_core.tt.kernels.expert_linear import ExpertLinear
from pi0_ttnn_core.tt.weights.cache import WeightCache

Build = Callable[[], Tensor]


@dataclass(frozen=True)
class WeightSource:
    """Where weights come from and go to.

    read: returns a tensor by our full name, in the stored dtype; a meta tensor gives the device's memory for it alone
    cache: of converted weights, or None to convert them anew
    """

    read: Callable[[str], Tensor]
    device: ttnn.MeshDevice
    cache: WeightCache | None = None


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

    def place(
        self,
        name: str,
        build: Build,
        dtype: ttnn.DataType = ttnn.bfloat16,
        layout: ttnn.Layout = ttnn.TILE_LAYOUT,
    ) -> ttnn.Tensor:
        """Return what `build` gives, in the device's DRAM; from the cache if it is there."""

        def convert() -> ttnn.Tensor:
            return ttnn.from_torch(build().contiguous(), dtype=dtype, layout=layout)

        if self.source.cache is not None:
            host = self.source.cache.get(f"{self.prefix}{name}.{dtype.name}", convert)
            return ttnn.to_device(host, self.device)
        values = build()
        if values.is_meta:
            return ttnn.allocate_tensor_on_device(ttnn.Shape(values.shape), dtype, layout, self.device)
        return ttnn.from_torch(values.contiguous(), dtype=dtype, layout=layout, device=self.device)

    def linear(self, name: str, activation: ttnn.UnaryWithParam | None = None, bias: bool = True) -> Linear:
        """Return a linear layer as it is stored."""
        return self.linear_of(
            name,
            lambda: self.tensor(f"{name}.weight"),
            (lambda: self.tensor(f"{name}.bias")) if bias else None,
            activation,
        )

    def linear_of(
        self, name: str, weight: Build, bias: Build | None = None, activation: ttnn.UnaryWithParam | None = None
    ) -> Linear:
        """Return a linear layer of weight [outputs, inputs] and bias [outputs]."""
        return Linear(
            self.place(f"{name}.weight", lambda: weight().T, getattr(ttnn, self.part.weights)),
            None if bias is None else self.place(f"{name}.bias", lambda: bias()[None]),
            kernel_config(self.part.fidelity),
            activation,
        )

    def expert_linear(self, name: str, weight: Build) -> ExpertLinear:
        """Return a linear layer of the expert of weight [outputs, inputs]."""
        return ExpertLinear(
            self.place(f"{name}.weight", lambda: weight().T, getattr(ttnn, self.part.weights)),
            getattr(ttnn.MathFidelity, self.part.fidelity),
        )

    def vector(self, name: str, build: Build) -> ttnn.Tensor:
        """Return [width] on the device as [1, 1, 1, width]."""
        return self.place(name, lambda: build()[None, None, None])

    def rows(self, name: str, build: Build) -> ttnn.Tensor:
        """Return [width] on the device as [1, 1, 32, width], each row the same."""
        return self.place(name, lambda: build().expand(1, 1, TILE, -1))


def qkv_weight(attention: Weights, config: GemmaConfig) -> Tensor:
    """Return queries', keys' and values' projections as one; the scale of the logits is folded into the queries."""
    query, key, value = (attention.tensor(f"{name}_proj.weight") for name in "qkv")
    return concatenated([query * config.head_dim**-0.5, key, value])


def gate_up_weight(mlp: Weights) -> Tensor:
    """Return the MLP's two projections as one, each padded with zeros to whole tiles."""
    return concatenated([pad_rows(mlp.tensor(f"{name}_proj.weight")) for name in ("gate", "up")])


def pad_rows(weight: Tensor, multiple: int = TILE) -> Tensor:
    """Pad outputs with zeros to a multiple."""
    return torch.nn.functional.pad(weight, (0, 0, 0, -weight.shape[0] % multiple))


def pad_heads(weight: Tensor, heads: int, axis: int) -> Tensor:
    """Pad each head's part of `axis` with zeros to whole tiles."""
    weight = weight.movedim(axis, 0).unflatten(0, (heads, -1))
    head_dim = weight.shape[1]
    padding = [0, 0] * (weight.dim() - 2) + [0, tiles(head_dim) - head_dim]
    return torch.nn.functional.pad(weight, padding).flatten(0, 1).movedim(0, axis)


def concatenated(parts: Sequence[Tensor]) -> Tensor:
    """Return several projections of one input as one."""
    return torch.cat(list(parts), dim=0)
