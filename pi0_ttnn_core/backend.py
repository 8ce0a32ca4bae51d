"""The `Backend` protocol, `BackendError`, and the names of backends and dtypes."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.rtc import GuidanceTarget

BACKENDS = ("torch", "ttnn")
DTYPES = ("float32", "bfloat16")


class BackendError(RuntimeError):
    """A backend that cannot run; the message gives the reason and the remedy."""


class DeviceLost(BackendError):
    """A device that hangs: the backend can only be closed, and its process should end."""


class Backend(Protocol):
    """Runs the model on one device.

    Attributes:
        name: one of BACKENDS.
        device: the device, in words.
        config: sizes of the model.
    """

    name: str
    device: str
    config: PI0Config

    def sample_actions(self, inputs: ModelInputs, num_steps: int, target: GuidanceTarget | None = None) -> np.ndarray:
        """Return normalised actions, float32 [batch, horizon, action_dim], guided towards `target` if given.

        Args:
            inputs: one batch.
            num_steps: Euler steps.
            target: normalised actions [batch, horizon, values] and their weights.

        Raises:
            DeviceLost: the device hangs.
            BackendError: `target` is given but the backend was loaded without guidance, the backend cannot take these
                inputs, or the device failed.
        """
        ...

    def close(self) -> None:
        """Free the weights and the device. The backend cannot be used afterwards."""
