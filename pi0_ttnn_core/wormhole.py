"""Find and select a Wormhole: a card, a simulator, or a mock that checks every op and executes none.

This module does not import ttnn, which reads the choice from the environment when it is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SIMULATOR = Path("~/.local/share/ttsim/libttsim_wh.so").expanduser()
DEVICE_FILES = Path("/dev/tenstorrent")
# The only supported release of ttnn: experimental ops change between releases.
TTNN_VERSION = "0.81.1"
# What TTNN reads on every device. Kernels compile in a fifth less time without debug information, and are the same.
COMPILER_SETTINGS = {"TT_METAL_RISCV_DEBUG_INFO": "0"}

# What TTNN reads on a card: without progress for so many seconds it raises an error. A whole inference is modelled at
# less than a tenth of that, and the default inference_timeout leaves time to close the device. A simulator needs
# minutes.
CARD_SETTINGS = {"TT_METAL_OPERATION_TIMEOUT_SECONDS": "3"}
# Longest that opening a card may take; opening hangs where the card does.
OPEN_TIMEOUT_S = 120

# Grid of compute cores -> mask of the rows of Tensix cores that are fused off.
HARVESTED_ROWS = {"8x8": 0b10_0000, "8x7": 0b110_0000, "8x9": 0}

DESCRIPTOR = """\
# One Wormhole n150 with {grid} compute cores.
arch: {{0: wormhole_b0}}
chips: {{0: [0, 0, 0, 0]}}
chips_with_mmio: [{{0: 0}}]
ethernet_connections: []
harvesting:
  0:
    noc_translation: true
    harvest_mask: {mask}
    dram_harvesting_mask: 0
    eth_harvesting_mask: 0
    pcie_harvesting_mask: 0
boards: [[{{board_id: 72059269369839682}}, {{board_type: n150}}, {{chips: [0]}}]]
"""


@dataclass(frozen=True)
class Wormhole:
    """A device that TTNN can open.

    Attributes:
        name: what it is, in words.
        simulated: whether it is a simulator.
    """

    name: str
    simulated: bool


def find_wormhole() -> Wormhole | str:
    """Return the device, or the reason why there is none and the remedy."""
    named = os.environ.get("TT_METAL_SIMULATOR")
    if named:
        if not Path(named).exists():
            return f"TT_METAL_SIMULATOR names {named}, which does not exist"
        return Wormhole(f"Wormhole simulator {Path(named).name}", simulated=True)
    if DEVICE_FILES.is_dir() and any(DEVICE_FILES.iterdir()):
        return Wormhole("Wormhole card", simulated=False)
    if SIMULATOR.exists():
        return Wormhole(f"Wormhole simulator {SIMULATOR.name}", simulated=True)
    return (
        f"no Tenstorrent card ({DEVICE_FILES} is empty: is the kernel driver tt-kmd loaded?) and no simulator "
        f"({SIMULATOR}, or the file that TT_METAL_SIMULATOR names)"
    )


def select_wormhole(device_id: str = "") -> Wormhole | str:
    """Find the device and set the environment variables by which TTNN opens it. Call this before `import ttnn`.

    Args:
        device_id: which of several cards: its PCI address or its number. If empty, the one that TT_VISIBLE_DEVICES
            names, or the first. A simulator has no number.
    """
    found = find_wormhole()
    if isinstance(found, Wormhole):
        if found.simulated:
            _set_defaults({"TT_METAL_SIMULATOR": str(SIMULATOR), "TT_METAL_DISABLE_SFPLOADMACRO": "1"})
        else:
            _set_defaults(CARD_SETTINGS)
            if device_id:
                os.environ["TT_VISIBLE_DEVICES"] = device_id
    _set_defaults(COMPILER_SETTINGS)
    return found


def is_card_selected() -> bool:
    """Return whether TTNN opens a card, not a simulator or a mock."""
    return not (os.environ.get("TT_METAL_SIMULATOR") or os.environ.get("TT_METAL_MOCK_CLUSTER_DESC_PATH"))


def select_mock_wormhole(grid: str, folder: Path) -> None:
    """Make TTNN open a mock with this grid instead of a device. Call this before `import ttnn`.

    Args:
        grid: columns x rows of compute cores: 8x8, 8x7 or 8x9.
        folder: where the card's description is written. It must exist as long as the mock is open.
    """
    assert "ttnn" not in sys.modules, "ttnn has already chosen its device"
    file = folder / "wormhole.yaml"
    file.write_text(DESCRIPTOR.format(grid=grid, mask=HARVESTED_ROWS[grid]), encoding="utf-8")
    for variable in ("TT_METAL_SIMULATOR", "TT_METAL_SLOW_DISPATCH_MODE"):
        os.environ.pop(variable, None)
    os.environ["TT_METAL_MOCK_CLUSTER_DESC_PATH"] = str(file)
    _set_defaults({"TT_LOGGER_LEVEL": "ERROR", "LOGURU_LEVEL": "ERROR", **COMPILER_SETTINGS})


def sfpi_folders(ttnn_folder: Path) -> tuple[Path, Path]:
    """Return where the package ttnn looks for SFPI, the compiler of the card's kernels."""
    return ttnn_folder / "runtime" / "sfpi", Path("/opt/tenstorrent/sfpi")


def has_sfpi(folder: Path) -> bool:
    """Return whether the compiler is in this folder."""
    return (folder / "compiler" / "bin" / "riscv-tt-elf-g++").exists()


def cache_root() -> Path:
    """Return the folder of all caches: PI0_TTNN_CACHE, or pi0_ttnn in the user's cache folder."""
    named = os.environ.get("PI0_TTNN_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "pi0_ttnn"


def _set_defaults(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)
