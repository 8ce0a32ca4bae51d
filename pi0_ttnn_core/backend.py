"""The `Backend` protocol, and the names of backends, dtypes and precisions."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.rtc import GuidanceTarget

BACKENDS = ("torch", "ttnn")
DTYPES = ("float32", "bfloat16")
PRECISIONS = ("accuracy", "default", "fast")


class BackendError(RuntimeError):
    """A backend that cannot run; the message says why and how to mend it."""


class Backend(Protocol):
    """Runs the model on one device."""

    name: str
    device: str
    config: PI0Config

    def sample_actions(self, inputs: ModelInputs, num_steps: int, target: GuidanceTarget | None = None) -> np.ndarray:
        """Return normalised actions, float32 [batch, horizon, action_dim], guided towards `target`.

        Raises:
            BackendError: there is a target, and the backend was loaded without guidance.
        """
        ...

    def close(self) -> None:
        """Free the weights and the device."""
