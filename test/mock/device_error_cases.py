"""Errors of ttnn: what explains them is kept, and a device that hangs is given up.

`test_device_errors.py` runs this file in a subprocess, which may open the mock.
"""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path

from pi0_ttnn_core.wormhole import select_mock_wormhole

descriptor = tempfile.TemporaryDirectory()
select_mock_wormhole("8x8", Path(descriptor.name))

import pytest
import ttnn

from pi0_ttnn_core.backend import BackendError, DeviceLost
from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint
from pi0_ttnn_core.configs import CONFIGS
from pi0_ttnn_core.model_inputs import random_inputs
from pi0_ttnn_core.tt.runtime import device as runtime_device
from pi0_ttnn_core.tt.runtime.backend import TTNNBackend
from pi0_ttnn_core.tt.runtime.device import open_device
from pi0_ttnn_core.tt.runtime.session import Session
from pi0_ttnn_core.ttnn_output import error_reason

CONFIG = CONFIGS["tiny"]


@pytest.fixture
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


def raises(text: str):
    def run(*_) -> None:
        raise RuntimeError(text)

    return run


def test_hang(tmp_path, monkeypatch):
    """After ttnn's operation timeout the device is lost, and its trace is not released, which would wait for it."""
    make_checkpoint("tiny", tmp_path, seed=0)
    backend = TTNNBackend(open_checkpoint(tmp_path), "mock", "default", CONFIG.num_steps, traced=False)
    closed = []
    monkeypatch.setattr(Session, "close", lambda session: closed.append(session))
    inputs = random_inputs(CONFIG, CONFIG.num_cameras)
    monkeypatch.setattr(Session, "run", raises("TT_FATAL @ a.cpp:1: b\ninfo:\nOut of Memory\nbacktrace:\n"))
    with pytest.raises(BackendError, match=r"^the inference failed on the device: Out of Memory$"):
        backend.sample_actions(inputs, CONFIG.num_steps)
    assert len(closed) == 1
    timeout = "TIMEOUT: device timeout, potential hang detected, the device is unrecoverable"
    monkeypatch.setattr(Session, "run", raises(f"TT_THROW @ a.cpp:1: b\ninfo:\n{timeout}\nbacktrace:\n"))
    with pytest.raises(DeviceLost, match=f"^the Wormhole hangs: {timeout}$"):
        backend.sample_actions(inputs, CONFIG.num_steps)
    backend.close()
    assert len(closed) == 1


def test_opening_hangs(monkeypatch):
    """Opening a card that hangs raises SIGALRM, which ends a process that does not handle it."""

    def on_alarm(*_) -> None:
        raise TimeoutError

    monkeypatch.setattr(ttnn, "open_device", lambda **_: time.sleep(600))
    monkeypatch.setattr(runtime_device, "is_card_selected", lambda: True)
    monkeypatch.setattr(runtime_device, "OPEN_TIMEOUT_S", 1)
    handler = signal.signal(signal.SIGALRM, on_alarm)
    try:
        with pytest.raises(TimeoutError):
            open_device(CONFIG, CONFIG.num_steps)
        assert signal.alarm(0) == 0
    finally:
        signal.signal(signal.SIGALRM, handler)
