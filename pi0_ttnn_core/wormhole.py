"""Which Wormhole there is on this machine: a card, or the simulator. Free of ttnn, which reads the choice at import."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SIMULATOR = Path("~/.local/share/ttsim/libttsim_wh.so").expanduser()
DEVICE_FILES = Path("/dev/tenstorrent")


@dataclass(frozen=True)
class Wormhole:
    """A device that TTNN can open; `name` says in words what it is."""

    name: str
    simulated: bool


def find_wormhole() -> Wormhole | str:
    """Return the device, or in words why there is none and what to do."""
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
        f"({SIMULATOR}, or what TT_METAL_SIMULATOR names)"
    )


def select_wormhole() -> Wormhole | str:
    """Find the device and set what TTNN reads from the environment to open it; to be called before `import ttnn`."""
    found = find_wormhole()
    if isinstance(found, Wormhole) and found.simulated:
        os.environ.setdefault("TT_METAL_SIMULATOR", str(SIMULATOR))
        os.environ.setdefault("TT_METAL_DISABLE_SFPLOADMACRO", "1")
    return found
