"""The device: opened with what the model needs, closed cleanly; what is missing is said in words."""

from __future__ import annotations

import os
from pathlib import Path

import ttnn

from pi0_ttnn_core.backends import BackendError

SFPI_PLACES = (Path(ttnn.__file__).parent / "runtime" / "sfpi", Path("/opt/tenstorrent/sfpi"))
# Bytes of DRAM for the captured trace of one inference.
TRACE_REGION = 64 * 2**20


def open_device() -> ttnn.MeshDevice:
    """Open the first Wormhole.

    Raises:
        BackendError: it cannot be opened, or is no Wormhole; the message says what is missing.
    """
    if not any((place / "compiler" / "bin" / "riscv-tt-elf-g++").exists() for place in SFPI_PLACES):
        raise BackendError(
            f"SFPI, the compiler of the card's kernels, is neither in {SFPI_PLACES[0]} nor in {SFPI_PLACES[1]}: "
            "install it from Tenstorrent's release page, or with scripts/setup"
        )
    try:
        device = ttnn.open_device(device_id=0, trace_region_size=TRACE_REGION, num_command_queues=1)
    except RuntimeError as error:
        raise BackendError(
            f"the Wormhole cannot be opened ({str(error).splitlines()[0]}): is another process using it, is the kernel "
            "driver tt-kmd loaded, are hugepages set up (tenstorrent/tt-system-tools)?"
        ) from error
    if not ttnn.device.is_wormhole_b0(device):
        ttnn.close_device(device)
        raise BackendError("the first Tenstorrent card is no Wormhole, for which this backend is made")
    return device


def can_trace() -> bool:
    """Return whether commands can be captured: with slow dispatch they can not."""
    return not os.environ.get("TT_METAL_SLOW_DISPATCH_MODE")
