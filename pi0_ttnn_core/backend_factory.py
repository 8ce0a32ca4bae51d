"""Backends: what runs the bare model. Each is imported only when it is asked for."""

from __future__ import annotations

from pi0_ttnn_core.backend import BACKENDS, DTYPES, PRECISIONS, Backend, BackendError
from pi0_ttnn_core.checkpoints.checkpoint import Checkpoint
from pi0_ttnn_core.wormhole import select_wormhole


def load_backend(
    name: str,
    checkpoint: Checkpoint,
    dtype: str = "float32",
    precision: str = "default",
    num_steps: int | None = None,
    with_guidance: bool = False,
) -> Backend:
    """Load the weights of `checkpoint` into the backend `name`.

    Args:
        dtype: of weights and activations, on the torch backend.
        precision: the preset of weights' dtypes and math fidelities, on the ttnn backend.
        num_steps: Euler steps that will be asked for; None: the checkpoint's.
        with_guidance: whether `sample_actions` will be given targets, which costs time on the ttnn backend; the torch
            backend accepts one at any time.
    Raises:
        BackendError: the backend or an option is unknown, or there is no device to run it on.
    """
    for label, value, choices in (
        ("backend", name, BACKENDS),
        ("dtype", dtype, DTYPES),
        ("precision", precision, PRECISIONS),
    ):
        if value not in choices:
            raise BackendError(f"unknown {label} {value!r}: choose one of {list(choices)}")
    if name == "ttnn":
        return _load_ttnn(checkpoint, precision, num_steps or checkpoint.config.num_steps, with_guidance)
    from pi0_ttnn_core.reference.backend import TorchBackend

    return TorchBackend(checkpoint, dtype)


def _load_ttnn(checkpoint: Checkpoint, precision: str, num_steps: int, with_guidance: bool) -> Backend:
    wormhole = select_wormhole()
    if isinstance(wormhole, str):
        raise BackendError(f"backend ttnn: {wormhole}")
    try:
        from pi0_ttnn_core.tt.runtime.backend import TTNNBackend
    except ImportError as error:
        raise BackendError(
            f"backend ttnn needs the package ttnn ({error}): pip install 'pi0_ttnn_ros[ttnn]'"
        ) from error
    return TTNNBackend(checkpoint, wormhole.name, precision, num_steps, with_guidance)
