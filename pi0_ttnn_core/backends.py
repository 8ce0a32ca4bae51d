"""Backends: what runs the bare model. Each is imported only when it is asked for."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pi0_ttnn_core.checkpoint import Checkpoint
from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.model_inputs import ModelInputs

BACKENDS = ("torch",)
DTYPES = ("float32", "bfloat16")


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


def load_backend(name: str, checkpoint: Checkpoint, dtype: str = "float32") -> Backend:
    """Load the weights of `checkpoint` into the backend `name`.

    Raises:
        BackendError: the backend or the dtype is unknown.
    """
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}: choose one of {list(BACKENDS)}")
    if dtype not in DTYPES:
        raise BackendError(f"unknown dtype {dtype!r}: choose one of {list(DTYPES)}")
    from pi0_ttnn_core.reference.backend import TorchBackend

    return TorchBackend(checkpoint, dtype)
