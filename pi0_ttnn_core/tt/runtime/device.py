"""Open the device as the model needs it; errors say what is missing."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import ttnn

from pi0_ttnn_core.backend import BackendError
from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.ttnn_output import error_reason
from pi0_ttnn_core.wormhole import TTNN_VERSION, has_sfpi, sfpi_folders

# Most bytes that one op takes in a captured trace: its commands for every core.
TRACE_BYTES = 64 * 1024


def open_device(config: PI0Config, num_steps: int, guided: bool = False) -> ttnn.MeshDevice:
    """Open the first Wormhole, with room for the trace of one inference and a second queue for uploads.

    Args:
        config: sizes of the model.
        num_steps: Euler steps of an inference.
        guided: whether inferences are guided.

    Raises:
        BackendError: the device cannot be opened or is not a Wormhole; the message says what is missing.
    """
    if version("ttnn") != TTNN_VERSION:
        raise BackendError(
            f"ttnn is {version('ttnn')}, but the backend requires {TTNN_VERSION}: pip install ttnn=={TTNN_VERSION}"
        )
    folders = sfpi_folders(Path(ttnn.__file__).parent)
    if not any(map(has_sfpi, folders)):
        raise BackendError(
            f"SFPI, the compiler of the card's kernels, is neither in {folders[0]} nor in {folders[1]}: install it "
            "from Tenstorrent's release page, or with scripts/setup"
        )
    try:
        device = ttnn.open_device(
            device_id=0,
            trace_region_size=TRACE_BYTES * operations(config, num_steps, guided) if can_trace() else 0,
            num_command_queues=2 if can_trace() else 1,
        )
    except RuntimeError as error:
        raise BackendError(
            f"the Wormhole cannot be opened ({error_reason(error)}): is another process using it, is the kernel "
            "driver tt-kmd loaded, are hugepages set up (tenstorrent/tt-system-tools)?"
        ) from error
    if not ttnn.device.is_wormhole_b0(device):
        ttnn.close_device(device)
        raise BackendError("the first Tenstorrent card is not a Wormhole, the only card that this backend supports")
    return device


def operations(config: PI0Config, num_steps: int, guided: bool) -> int:
    """Return an upper bound of the number of operations in one inference."""
    per_block, per_step = (50, 50) if guided else (5, 10)
    denoising = num_steps * (per_block * config.expert.depth + per_step)
    return 16 * (1 + config.vision.depth + config.prefix.depth) + denoising


def can_trace() -> bool:
    """Return whether commands can be captured into a trace, which slow dispatch cannot do."""
    return not os.environ.get("TT_METAL_SLOW_DISPATCH_MODE")
