"""Backends: what runs the bare model. Each is imported only when it is asked for."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pi0_ttnn_core.action_prefix import ActionPrefix
from pi0_ttnn_core.checkpoint import Checkpoint
from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.wormhole import select_wormhole

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

    def sample_actions(self, inputs: ModelInputs, num_steps: int, prefix: ActionPrefix | None = None) -> np.ndarray:
        """Return normalised actions, float32 [batch, horizon, action_dim], in agreement with `prefix`.

        Raises:
            BackendError: there is a prefix, and the backend was loaded for none.
        """
        ...

    def close(self) -> None:
        """Free the weights and the device."""


def load_backend(
    name: str,
    checkpoint: Checkpoint,
    dtype: str = "float32",
    precision: str = "default",
    num_steps: int | None = None,
    with_prefix: bool = False,
) -> Backend:
    """Load the weights of `checkpoint` into the backend `name`.

    Args:
        dtype: of weights and activations, on the torch backend.
        precision: the preset of weights' dtypes and math fidelities, on the ttnn backend.
        num_steps: Euler steps that will be asked for; None: the checkpoint's.
        with_prefix: whether actions will have to agree with a prefix, which costs time on the ttnn backend; the torch
            backend takes one at any time.
    Raises:
        BackendError: the backend or an option is unknown, or there is no device to run it on.
    """
    for what, value, choices in (
        ("backend", name, BACKENDS),
        ("dtype", dtype, DTYPES),
        ("precision", precision, PRECISIONS),
    ):
        if value not in choices:
            raise BackendError(f"unknown {what} {value!r}: choose one of {list(choices)}")
    if name == "ttnn":
        return _load_ttnn(checkpoint, precision, num_steps or checkpoint.config.num_steps, with_prefix)
    from pi0_ttnn_core.reference.backend import TorchBackend

    return TorchBackend(checkpoint, dtype)


def _load_ttnn(checkpoint: Checkpoint, precision: str, num_steps: int, with_prefix: bool) -> Backend:
    wormhole = select_wormhole()
    if isinstance(wormhole, str):
        raise BackendError(f"backend ttnn: {wormhole}")
    try:
        from pi0_ttnn_core.tt.backend import TTNNBackend
    except ImportError as error:
        raise BackendError(
            f"backend ttnn needs the package ttnn ({error}): pip install 'pi0_ttnn_ros[ttnn]'"
        ) from error
    return TTNNBackend(checkpoint, wormhole.name, precision, num_steps, with_prefix)
