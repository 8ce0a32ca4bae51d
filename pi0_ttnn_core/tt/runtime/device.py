"""The device: opened with what the model needs, closed cleanly; what is missing is said in words."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import ttnn

from pi0_ttnn_core.backend import BackendError
from pi0_ttnn_core.configs import PI0Config

SFPI_PLACES = (Path(ttnn.__file__).parent / "runtime" / "sfpi", Path("/opt/tenstorrent/sfpi"))
# What ttnn this was made for, and run with on the simulator: its experimental operations change between releases.
TTNN_VERSION = "0.81.1"
# Bytes that one operation takes in a captured trace, at most: its commands for every core.
TRACE_BYTES = 64 * 1024


def open_device(config: PI0Config, num_steps: int, guided: bool = False) -> ttnn.MeshDevice:
    """Open the first Wormhole, with room for the trace of one inference and a second queue for uploads.

    `guided`: the inference will have guidance.

    Raises:
        BackendError: it cannot be opened, or is no Wormhole; the message says what is missing.
    """
    if version("ttnn") != TTNN_VERSION:
        raise BackendError(
            f"ttnn is {version('ttnn')}, but the backend is made for {TTNN_VERSION}: pip install ttnn=={TTNN_VERSION}"
        )
    if not any((place / "compiler" / "bin" / "riscv-tt-elf-g++").exists() for place in SFPI_PLACES):
        raise BackendError(
            f"SFPI, the compiler of the card's kernels, is neither in {SFPI_PLACES[0]} nor in {SFPI_PLACES[1]}: "
            "install it from Tenstorrent's release page, or with scripts/setup"
        )
    try:
        device = ttnn.open_device(
            device_id=0,
            trace_region_size=TRACE_BYTES * operations(config, num_steps, guided) if can_trace() else 0,
            num_command_queues=2 if can_trace() else 1,
        )
    except RuntimeError as error:
        raise BackendError(
            f"the Wormhole cannot be opened ({str(error).splitlines()[0]}): is another process using it, is the kernel "
            "driver tt-kmd loaded, are hugepages set up (tenstorrent/tt-system-tools)?"
        ) from error
    if not ttnn.device.is_wormhole_b0(device):
        ttnn.close_device(device)
        raise BackendError("the first Tenstorrent card is no Wormhole, for which this backend is made")
    return device


def operations(config: PI0Config, num_steps: int, guided: bool) -> int:
    """Return a bound of the number of operations in one inference."""
    of_a_block, of_a_step = (50, 50) if guided else (5, 10)
    of_denoising = num_steps * (of_a_block * config.expert.depth + of_a_step)
    return 16 * (1 + config.vision.depth + config.prefix.depth) + of_denoising


def can_trace() -> bool:
    """Return whether commands can be captured: with slow dispatch they can not."""
    return not os.environ.get("TT_METAL_SLOW_DISPATCH_MODE")
