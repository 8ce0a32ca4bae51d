"""What a component is built of on both sides, with inputs that bfloat16 holds exactly."""

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
from pi0_ttnn_core.tt.runtime.session import FORMATS
from pi0_ttnn_core.tt.weights.conversion import Weights, WeightSource

Module = TypeVar("Module", bound=nn.Module)
TOWER = "prefix_embedding.vision_tower"
# The Euler step at which what depends on the time is compared.
STEP = 3
PROMPT_TOKENS = 17


@dataclass(frozen=True)
class Harness:
    """What a component is built of. `read` returns a tensor by our full name."""

    config: PI0Config
    read: Callable[[str], Tensor]
    device: ttnn.MeshDevice
    precision: Precision

    def reference(self, build: Callable[[], Module], name: str) -> Module:
        """Build a part of the reference model, and read its weights, whose names start with `name`."""
        with torch.device("meta"):
            module = build()
        weights = {weight: self.read(f"{name}{weight}").float() for weight in module.state_dict()}
        module.load_state_dict(weights, assign=True)
        return module

    def weights(self, part: str, name: str = "") -> Weights:
        weights = Weights(WeightSource(self.read, self.device), getattr(self.precision, part))
        return weights.of(name) if name else weights

    def upload(self, values: Tensor) -> ttnn.Tensor:
        """Return [rows, width] on the device as [1, 1, rows, width]."""
        values = values.reshape(1, *[1] * (3 - values.dim()), *values.shape)
        return ttnn.from_torch(values, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=self.device)

    @cached_property
    def inputs(self) -> ModelInputs:
        """One observation: one camera is missing if there are several, the prompt does not fill its tokens."""
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
        return self.upload_inputs(None)

    def upload_inputs(self, target: GuidanceTarget | None) -> DeviceInputs:
        tensors: dict[str, ttnn.Tensor | None] = {}
        for name, values in vars(host_inputs(self.inputs, self.config, target)).items():
            dtype, layout = FORMATS.get(name, (ttnn.bfloat16, ttnn.TILE_LAYOUT))
            tensors[name] = (
                None if values is None else ttnn.from_torch(values, dtype=dtype, layout=layout, device=self.device)
            )
        return DeviceInputs(**tensors)

    @property
    def pad_mask(self) -> Tensor:
        """Which prefix tokens are valid, bool [1, cameras * patches + tokens]."""
        image_masks, token_mask = torch.from_numpy(self.inputs.image_masks), torch.from_numpy(self.inputs.token_mask)
        return masks.prefix_pad_mask(image_masks, token_mask, self.config.vision.num_patches)

    @cached_property
    def models(self) -> tuple[PI0ModelTorch, PI0ModelTTNN]:
        """The whole model, in the reference and on the device."""
        source = WeightSource(self.read, self.device)
        reference = self.reference(lambda: PI0ModelTorch(self.config), "")
        return reference, PI0ModelTTNN(self.config, source, self.precision, self.config.num_steps)

    @property
    def time(self) -> Tensor:
        return torch.tensor([1.0 - STEP / self.config.num_steps])

    @cached_property
    def condition(self) -> Tensor | None:
        """Of the adaptive norms at step STEP, [1, width]: PI0.5's only."""
        if not self.config.pi05:
            return None
        suffix = self.reference(lambda: SuffixEmbeddingTorch(self.config), "suffix_embedding.")
        return suffix.condition(suffix.embed_timestep(self.time))


def _exact(values: Tensor) -> Tensor:
    """Return the nearest values that bfloat16 holds, as float32."""
    return values.bfloat16().float()


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    """Return random values that bfloat16 holds exactly, the same at every call."""
    random = np.random.default_rng([1, *shape])
    return _exact(torch.from_numpy(random.standard_normal(shape) * scale))


def download(tensor: ttnn.Tensor) -> Tensor:
    return ttnn.to_torch(tensor).float()
