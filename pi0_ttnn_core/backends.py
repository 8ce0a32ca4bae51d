"""Backends: what runs the bare model."""

from __future__ import annotations

import platform
from typing import Protocol

import numpy as np
import torch

from pi0_ttnn_core.checkpoint import Checkpoint
from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.reference.model import PI0ModelTorch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class BackendError(RuntimeError):
    """A backend that cannot run; the message says why and how to mend it."""


class Backend(Protocol):
    """Runs the model on one device."""

    name: str
    device: str
    config: PI0Config

    def sample_actions(self, inputs: ModelInputs, num_steps: int) -> np.ndarray:
        """Return normalised actions, float32 [batch, horizon, action_dim]."""
        ...


class TorchBackend:
    """The reference model on the CPU."""

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
        self.config = checkpoint.config
        self.device = f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
        with torch.device("meta"):
            self.model = PI0ModelTorch(checkpoint.config)
        weights = {name: tensor.to(dtype) for name, tensor in checkpoint.read_tensors()}
        self.model.load_state_dict(weights, assign=True)
        self.model.eval()

    def sample_actions(self, inputs: ModelInputs, num_steps: int) -> np.ndarray:
        tensors = {name: torch.from_numpy(array) for name, array in vars(inputs).items()}
        return self.model.sample_actions(**tensors, num_steps=num_steps).numpy()


BACKENDS = ("torch",)


def load_backend(name: str, checkpoint: Checkpoint, dtype: str = "float32") -> Backend:
    """Load the weights of `checkpoint` into the backend `name`.

    Raises:
        BackendError: the backend or the dtype is unknown.
    """
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}: choose one of {list(BACKENDS)}")
    if dtype not in DTYPES:
        raise BackendError(f"unknown dtype {dtype!r}: choose one of {list(DTYPES)}")
    return TorchBackend(checkpoint, DTYPES[dtype])
