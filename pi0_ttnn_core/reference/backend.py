"""The reference model as a backend, on the CPU."""

from __future__ import annotations

import platform

import numpy as np
import torch
from torch import nn

from pi0_ttnn_core.checkpoints.checkpoint import Checkpoint
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.reference.model import PI0ModelTorch
from pi0_ttnn_core.rtc import GuidanceTarget


class TorchBackend:
    """The reference model with a checkpoint's weights; see `Backend`."""

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, dtype: str) -> None:
        """Load the weights; `dtype` is that of weights and activations, "float32" or "bfloat16"."""
        self.config = checkpoint.config
        self.device = f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
        self.model = load_model(checkpoint, getattr(torch, dtype))

    def sample_actions(self, inputs: ModelInputs, num_steps: int, target: GuidanceTarget | None = None) -> np.ndarray:
        """Return normalised actions, float32 [batch, horizon, action_dim], guided towards `target` if given."""
        tensors = {name: torch.from_numpy(array) for name, array in vars(inputs).items()}
        if target is not None:
            tensors["target_actions"] = torch.from_numpy(target.actions)
            tensors["guidance_mask"] = torch.from_numpy(target.weights)
        return self.model.sample_actions(**tensors, num_steps=num_steps).numpy()

    def close(self) -> None:
        """Free the weights."""
        del self.model


def load_model(checkpoint: Checkpoint, dtype: torch.dtype) -> PI0ModelTorch:
    """Return the reference model with the weights of `checkpoint`, read one by one to save memory."""
    with torch.device("meta"):
        model = PI0ModelTorch(checkpoint.config)
    for name, tensor in checkpoint.read_tensors():
        module, _, parameter = name.rpartition(".")
        # Copied even if the dtype is the stored one: otherwise the weight would stay in the mapped file.
        weight = nn.Parameter(tensor.to(dtype, copy=True), requires_grad=False)
        setattr(model.get_submodule(module), parameter, weight)
    return model.eval()
