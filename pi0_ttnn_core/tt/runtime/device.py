"""Open the device as the model needs it; errors say what is missing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import ttnn

from pi0_ttnn_core.backend import BackendError
from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.ttnn_output import error_reason
from pi0_ttnn_core.wormhole import OPEN_TIMEOUT_S, TTNN_VERSION, has_sfpi, is_card_selected, sfpi_folders

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
        with _alarm_if_it_hangs():
            device = ttnn.open_device(
                device_id=0,  # of the visible ones, see `select_wormhole`
                trace_region_size=TRACE_BYTES * operations(config, num_steps, guided) if can_trace() else 0,
                num_command_queues=2 if can_trace() else 1,
                # With two chips TTNN's default is Ethernet cores, which a killed process leaves in a worse state.
                dispatch_core_config=ttnn.DispatchCoreConfig(type=ttnn.DispatchCoreType.WORKER),
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


@contextmanager
def _alarm_if_it_hangs() -> Iterator[None]:
    """End the process with SIGALRM if opening a card takes too long: it may hold Python's lock while it hangs."""
    if not is_card_selected():
        yield
        return
    signal.alarm(OPEN_TIMEOUT_S)
    try:
        yield
    finally:
        signal.alarm(0)


def operations(config: PI0Config, num_steps: int, guided: bool) -> int:
    """Return an upper bound of the number of operations in one inference."""
    per_block, per_step = (50, 50) if guided else (5, 10)
    denoising = num_steps * (per_block * config.expert.depth + per_step)
    return 16 * (1 + config.vision.depth + config.prefix.depth) + denoising


def can_trace() -> bool:
    """Return whether commands can be captured into a trace, which slow dispatch cannot do."""
    return not os.environ.get("TT_METAL_SLOW_DISPATCH_MODE")
