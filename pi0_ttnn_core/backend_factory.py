"""Load a backend by its name. Each is imported only when it is requested."""

from __future__ import annotations

from pi0_ttnn_core.backend import BACKENDS, DTYPES, Backend, BackendError
from pi0_ttnn_core.checkpoints.checkpoint import Checkpoint
from pi0_ttnn_core.precision import PRECISIONS
from pi0_ttnn_core.wormhole import select_wormhole


def load_backend(
    name: str,
    checkpoint: Checkpoint,
    dtype: str = "float32",
    precision: str = "default",
    num_steps: int | None = None,
    with_guidance: bool = False,
    device_id: str = "",
) -> Backend:
    """Load the weights of `checkpoint` into the backend `name`.

    Args:
        name: one of BACKENDS.
        checkpoint: the weights and the sizes of the model.
        dtype: dtype of weights and activations on the torch backend, one of DTYPES.
        precision: preset of dtypes and math fidelities on the ttnn backend, one of PRECISIONS.
        num_steps: Euler steps of every inference on the ttnn backend. None: the checkpoint's.
        with_guidance: whether `sample_actions` will be given targets, which costs time on the ttnn backend. The torch
            backend accepts one at any time.
        device_id: which of several cards on the ttnn backend, see `select_wormhole`.

    Raises:
        BackendError: the backend or an option is unknown, or there is no device to run on.
    """
    for label, value, choices in (
        ("backend", name, BACKENDS),
        ("dtype", dtype, DTYPES),
        ("precision", precision, PRECISIONS),
    ):
        if value not in choices:
            raise BackendError(f"unknown {label} {value!r}: choose one of {list(choices)}")
    if name == "ttnn":
        return _load_ttnn(checkpoint, precision, num_steps or checkpoint.config.num_steps, with_guidance, device_id)
    from pi0_ttnn_core.reference.backend import TorchBackend

    return TorchBackend(checkpoint, dtype)


def _load_ttnn(checkpoint: Checkpoint, precision: str, num_steps: int, with_guidance: bool, device_id: str) -> Backend:
    wormhole = select_wormhole(device_id)
    if isinstance(wormhole, str):
        raise BackendError(f"backend ttnn: {wormhole}")
    try:
        from pi0_ttnn_core.tt.runtime.backend import TTNNBackend
    except ImportError as error:
        raise BackendError(
            f"backend ttnn requires the package ttnn ({error}): pip install 'pi0_ttnn_ros[ttnn]'"
        ) from error
    return TTNNBackend(checkpoint, wormhole.name, precision, num_steps, with_guidance)
