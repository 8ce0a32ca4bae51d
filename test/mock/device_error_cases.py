"""Errors of ttnn: what explains them is kept.

`test_device_errors.py` runs this file in a subprocess, which may open the mock.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pi0_ttnn_core.wormhole import select_mock_wormhole

descriptor = tempfile.TemporaryDirectory()
select_mock_wormhole("8x8", Path(descriptor.name))

import pytest
import ttnn

from pi0_ttnn_core.configs import CONFIGS
from pi0_ttnn_core.tt.runtime.device import open_device
from pi0_ttnn_core.ttnn_output import error_reason

CONFIG = CONFIGS["tiny"]


@pytest.fixture(scope="module")
def device():
    device = open_device(CONFIG, CONFIG.num_steps)
    yield device
    ttnn.close_device(device)


def test_error_reason(device):
    """A tensor that does not fit into L1: the reason is the sentence, not the line of the source."""
    with pytest.raises(RuntimeError) as raised:
        ttnn.empty([1, 1, 4096, 32000], ttnn.bfloat16, ttnn.TILE_LAYOUT, device, ttnn.L1_MEMORY_CONFIG)
    reason = error_reason(raised.value)
    assert reason.startswith("Out of Memory: Not enough space to allocate 262144000 B L1 buffer")
    assert "\n" not in reason and "backtrace" not in reason and "TT_FATAL" not in reason
