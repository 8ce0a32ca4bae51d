"""The TTNN model as a backend: uploads what changed, runs the model, downloads the actions."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
import ttnn

from pi0_ttnn_core.backends import BackendError
from pi0_ttnn_core.checkpoint import Checkpoint
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.tt.device import open_device
from pi0_ttnn_core.tt.inputs import HostInputs, host_inputs
from pi0_ttnn_core.tt.model import DeviceInputs, PI0ModelTTNN
from pi0_ttnn_core.tt.precision import PRESETS
from pi0_ttnn_core.tt.suffix_weights import suffix_length
from pi0_ttnn_core.tt.weights import WeightSource

# dtype and layout on the device, where they are not bfloat16 in tiles.
FORMATS = {
    "images": (ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT),
    "tokens": (ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT),
    "noise": (ttnn.float32, ttnn.TILE_LAYOUT),
}


class TTNNBackend:
    """A checkpoint on a Wormhole."""

    name = "ttnn"

    def __init__(self, checkpoint: Checkpoint, device_name: str, precision: str, num_steps: int) -> None:
        self.config = checkpoint.config
        self._device = open_device()
        grid = self._device.compute_with_storage_grid_size()
        self.device = f"{device_name}, {grid.x}x{grid.y} cores"
        self.model = PI0ModelTTNN(
            self.config, WeightSource(checkpoint.read_tensor, self._device), PRESETS[precision], num_steps
        )

    def sample_actions(self, inputs: ModelInputs, num_steps: int) -> np.ndarray:
        if inputs.tokens.shape[1] > self.config.num_tokens:
            raise BackendError(
                f"{inputs.tokens.shape[1]} tokens, but the device is set up for {self.config.num_tokens}"
            )
        if num_steps != self.model.num_steps:
            raise BackendError(f"loaded for {self.model.num_steps} Euler steps, asked for {num_steps}")
        batch, config = len(inputs.tokens), self.config
        device_inputs = upload(host_inputs(complete(inputs, config.num_cameras), config), self._device)
        actions = ttnn.to_torch(self.model.sample_actions(device_inputs, self.model.allocate_cache(batch)))
        rows = actions.reshape(batch, suffix_length(config), -1)
        return rows[:, : config.horizon, : config.action_dim].contiguous().numpy()

    def close(self) -> None:
        """Free weights and device; the backend is of no use after."""
        del self.model
        ttnn.close_device(self._device)


def complete(inputs: ModelInputs, num_cameras: int) -> ModelInputs:
    """Return the inputs with all camera slots, the missing ones empty and masked."""
    batch, cameras, *rest = inputs.images.shape
    images = np.full((batch, num_cameras, *rest), -1.0, np.float32)
    images[:, :cameras] = inputs.images
    image_masks = np.zeros((batch, num_cameras), np.bool_)
    image_masks[:, :cameras] = inputs.image_masks
    return ModelInputs(**{**vars(inputs), "images": images, "image_masks": image_masks})


def upload(inputs: HostInputs, device: ttnn.MeshDevice) -> DeviceInputs:
    """Return the inputs on the device."""
    tensors: dict[str, ttnn.Tensor | None] = {}
    for field in fields(HostInputs):
        values: torch.Tensor | None = getattr(inputs, field.name)
        dtype, layout = FORMATS.get(field.name, (ttnn.bfloat16, ttnn.TILE_LAYOUT))
        tensors[field.name] = (
            None if values is None else ttnn.from_torch(values, dtype=dtype, layout=layout, device=device)
        )
    return DeviceInputs(**tensors)
