"""Build components in the reference and on the device, with inputs that bfloat16 represents exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
import ttnn
from torch import Tensor, nn

from pi0_ttnn_core import masks
from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.model_inputs import ModelInputs, random_inputs
from pi0_ttnn_core.precision import Precision
from pi0_ttnn_core.reference.model import PI0ModelTorch
from pi0_ttnn_core.reference.suffix import SuffixEmbeddingTorch
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_core.tt.model import DeviceInputs, PI0ModelTTNN
from pi0_ttnn_core.tt.runtime.inputs import host_inputs
from pi0_ttnn_core.tt.runtime.session import format_of
from pi0_ttnn_core.tt.weights.conversion import Weights, WeightSource

Module = TypeVar("Module", bound=nn.Module)
TOWER = "prefix_embedding.vision_tower"
# The Euler step at which components that depend on the time are compared.
STEP = 3
PROMPT_TOKENS = 17


@dataclass(frozen=True)
class Harness:
    """Weights, inputs and models of the reference and of the device.

    Attributes:
        config: sizes of the model.
        read_tensor: returns a weight by its full canonical name.
        device: the device.
        precision: dtypes and math fidelities on the device.
    """

    config: PI0Config
    read_tensor: Callable[[str], Tensor]
    device: ttnn.MeshDevice
    precision: Precision

    def reference(self, build: Callable[[], Module], name: str) -> Module:
        """Return a part of the reference model with its weights, whose names start with `name`."""
        with torch.device("meta"):
            module = build()
        weights = {weight: self.read_tensor(f"{name}{weight}").float() for weight in module.state_dict()}
        module.load_state_dict(weights, assign=True)
        return module

    def weights(self, part: str, name: str = "") -> Weights:
        """Return the weights whose names start with `name`, at the precision of `part`."""
        weights = Weights(WeightSource(self.read_tensor, self.device), getattr(self.precision, part))
        return weights.child(name) if name else weights

    def upload(self, values: Tensor) -> ttnn.Tensor:
        """Return values on the device, bfloat16, with leading axes added up to four: [1, 1, rows, width]."""
        values = values.reshape(1, *[1] * (3 - values.dim()), *values.shape)
        return ttnn.from_torch(values, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=self.device)

    @cached_property
    def inputs(self) -> ModelInputs:
        """One observation: the second camera is missing, and the prompt is shorter than its tokens."""
        cameras = self.config.num_cameras
        inputs = random_inputs(self.config, cameras, PROMPT_TOKENS)
        return replace(
            inputs,
            images=_exact(torch.from_numpy(inputs.images)).numpy(),
            image_masks=np.arange(cameras)[None] != 1,
            state=_exact(torch.from_numpy(inputs.state)).numpy(),
        )

    @cached_property
    def device_inputs(self) -> DeviceInputs:
        """The inputs on the device, without a target."""
        return self.upload_inputs(None)

    def upload_inputs(self, target: GuidanceTarget | None) -> DeviceInputs:
        """Return the inputs on the device, with `target` if given."""
        inputs = host_inputs(self.inputs, self.config, target)
        tensors: dict[str, ttnn.Tensor | None] = dict.fromkeys(vars(inputs))
        for name, values in inputs.present().items():
            dtype, layout = format_of(name)
            tensors[name] = ttnn.from_torch(values, dtype=dtype, layout=layout, device=self.device)
        return DeviceInputs(**tensors)

    @property
    def pad_mask(self) -> Tensor:
        """Valid prefix tokens, bool [1, cameras * patches + tokens]."""
        image_masks, token_mask = torch.from_numpy(self.inputs.image_masks), torch.from_numpy(self.inputs.token_mask)
        return masks.prefix_pad_mask(image_masks, token_mask, self.config.vision.num_patches)

    @cached_property
    def models(self) -> tuple[PI0ModelTorch, PI0ModelTTNN]:
        """The whole model, in the reference and on the device."""
        source = WeightSource(self.read_tensor, self.device)
        reference = self.reference(lambda: PI0ModelTorch(self.config), "")
        return reference, PI0ModelTTNN(self.config, source, self.precision, self.config.num_steps)

    @property
    def time(self) -> Tensor:
        """The flow's time at Euler step STEP, [1]."""
        return torch.tensor([1.0 - STEP / self.config.num_steps])

    @cached_property
    def condition(self) -> Tensor | None:
        """The condition of adaptive norms at Euler step STEP, [1, width]. None for PI0."""
        if not self.config.pi05:
            return None
        suffix = self.reference(lambda: SuffixEmbeddingTorch(self.config), "suffix_embedding.")
        return suffix.condition(suffix.embed_timestep(self.time))


def _exact(values: Tensor) -> Tensor:
    """Return values rounded to bfloat16, as float32."""
    return values.bfloat16().float()


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    """Return normally distributed values that bfloat16 represents exactly, the same in every call."""
    random = np.random.default_rng([1, *shape])
    return _exact(torch.from_numpy(random.standard_normal(shape) * scale))


def download(tensor: ttnn.Tensor) -> Tensor:
    """Return a device tensor in torch, float32."""
    return ttnn.to_torch(tensor).float()


def scatter_rows(rows: Tensor, indices: Tensor, length: int) -> Tensor:
    """Return [..., length, width] with the rows of [..., rows, width] at the given indices, and zeros elsewhere."""
    scattered = torch.zeros(*rows.shape[:-2], length, rows.shape[-1])
    scattered[..., indices, :] = rows
    return scattered
