"""A mock Wormhole n150: TTNN opens it on any machine, checks every op as on a card, and executes nothing.

Free of ttnn, which reads the choice at import.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Grid of compute cores -> which rows of the chip's Tensix cores are fused off, as a mask.
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


def select_mock_wormhole(grid: str, folder: Path) -> None:
    """Have TTNN open a mock with this grid instead of a device; to be called before `import ttnn`.

    Args:
        grid: columns x rows of compute cores: 8x8, 8x7 or 8x9.
        folder: where the card's description is written; it must stay as long as the mock is open.
    """
    assert "ttnn" not in sys.modules, "ttnn has already chosen its device"
    file = folder / "wormhole.yaml"
    file.write_text(DESCRIPTOR.format(grid=grid, mask=HARVESTED_ROWS[grid]), encoding="utf-8")
    for variable in ("TT_METAL_SIMULATOR", "TT_METAL_SLOW_DISPATCH_MODE"):
        os.environ.pop(variable, None)
    os.environ["TT_METAL_MOCK_CLUSTER_DESC_PATH"] = str(file)
    for variable in ("TT_LOGGER_LEVEL", "LOGURU_LEVEL"):
        os.environ.setdefault(variable, "ERROR")
