"""A checkpoint's weights on the device: padded, fused and folded in torch once, when the model is loaded."""

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

# Builds a weight in torch; not called if the converted weight is in the cache.
Build = Callable[[], Tensor]


@dataclass(frozen=True)
class WeightSource:
    """Where weights are read from and stored.

    Attributes:
        read: returns a tensor by its full canonical name, in the stored dtype. For a meta tensor, the memory on the
            device is allocated and left uninitialised.
        device: holds the weights.
        cache: cache of converted weights. None: convert them every time.
    """

    read: Callable[[str], Tensor]
    device: ttnn.MeshDevice
    cache: WeightCache | None = None


@dataclass(frozen=True)
class Weights:
    """The weights of one part of the model.

    Attributes:
        source: where weights are read from and stored.
        precision: dtypes and math fidelities of this part.
        path: start of the tensors' canonical names: empty, or ending in a dot.
    """

    source: WeightSource
    precision: PartPrecision
    path: str = ""

    @property
    def device(self) -> ttnn.MeshDevice:
        """The device that holds the weights."""
        return self.source.device

    def child(self, name: str) -> Weights:
        """Return the weights whose names start with `name` and a dot."""
        return replace(self, path=f"{self.path}{name}.")

    def tensor(self, name: str) -> Tensor:
        """Return a weight in torch, float32."""
        return self.source.read(self.path + name).float()

    def to_device(
        self,
        name: str,
        build: Build,
        dtype: ttnn.DataType = ttnn.bfloat16,
        layout: ttnn.Layout = ttnn.TILE_LAYOUT,
    ) -> ttnn.Tensor:
        """Return the result of `build` in the device's DRAM, taken from the cache if it is there."""

        def convert() -> ttnn.Tensor:
            return ttnn.from_torch(build().contiguous(), dtype=dtype, layout=layout)

        if self.source.cache is not None:
            host = self.source.cache.get(f"{self.path}{name}.{dtype.name}", convert)
            return ttnn.to_device(host, self.device)
        values = build()
        if values.is_meta:
            return ttnn.allocate_tensor_on_device(ttnn.Shape(values.shape), dtype, layout, self.device)
        return ttnn.from_torch(values.contiguous(), dtype=dtype, layout=layout, device=self.device)

    def linear(self, name: str, activation: ttnn.UnaryWithParam | None = None, bias: bool = True) -> Linear:
        """Return the linear layer `name` of the checkpoint."""
        return self.linear_from(
            name,
            lambda: self.tensor(f"{name}.weight"),
            (lambda: self.tensor(f"{name}.bias")) if bias else None,
            activation,
        )

    def linear_from(
        self, name: str, weight: Build, bias: Build | None = None, activation: ttnn.UnaryWithParam | None = None
    ) -> Linear:
        """Return a linear layer with weight [outputs, inputs] and bias [outputs]."""
        return Linear(
            self.to_device(f"{name}.weight", lambda: weight().T, getattr(ttnn, self.precision.weights)),
            None if bias is None else self.to_device(f"{name}.bias", lambda: bias()[None]),
            kernel_config(self.precision.fidelity),
            activation,
        )

    def expert_linear(self, name: str, weight: Build) -> ExpertLinear:
        """Return a linear layer of the expert with weight [outputs, inputs]."""
        return ExpertLinear(
            self.to_device(f"{name}.weight", lambda: weight().T, getattr(ttnn, self.precision.weights)),
            getattr(ttnn.MathFidelity, self.precision.fidelity),
        )

    def vector(self, name: str, build: Build) -> ttnn.Tensor:
        """Return [width] on the device as [1, 1, 1, width]."""
        return self.to_device(name, lambda: build()[None, None, None])

    def rows(self, name: str, build: Build) -> ttnn.Tensor:
        """Return [width] on the device as [1, 1, 32, width], with equal rows."""
        return self.to_device(name, lambda: build().expand(1, 1, TILE, -1))


def qkv_weight(attention: Weights, config: GemmaConfig) -> Tensor:
    """Return the projections to queries, keys and values as one; the scale of the logits is folded into the queries."""
    query, key, value = (attention.tensor(f"{name}_proj.weight") for name in "qkv")
    return concatenated([query * config.head_dim**-0.5, key, value])


def gate_up_weight(mlp: Weights) -> Tensor:
    """Return the MLP's gate and up projections as one, each padded with zeros to whole tiles."""
    return concatenated([pad_rows(mlp.tensor(f"{name}_proj.weight")) for name in ("gate", "up")])


def pad_rows(weight: Tensor, multiple: int = TILE) -> Tensor:
    """Return a weight [outputs, inputs] whose outputs are padded with zeros to a multiple."""
    return torch.nn.functional.pad(weight, (0, 0, 0, -weight.shape[0] % multiple))


def pad_heads(weight: Tensor, heads: int, axis: int) -> Tensor:
    """Return a weight in which each head's part of `axis` is padded with zeros to whole tiles."""
    weight = weight.movedim(axis, 0).unflatten(0, (heads, -1))
    head_dim = weight.shape[1]
    padding = [0, 0] * (weight.dim() - 2) + [0, tiles(head_dim) - head_dim]
    return torch.nn.functional.pad(weight, padding).flatten(0, 1).movedim(0, axis)


def concatenated(parts: Sequence[Tensor]) -> Tensor:
    """Return several projections of the same input as one."""
    return torch.cat(list(parts), dim=0)
