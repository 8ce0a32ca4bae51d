"""What is set before ttnn is imported, for a card and for a simulator."""

from __future__ import annotations

import os

import pytest

from pi0_ttnn_core import wormhole
from pi0_ttnn_core.wormhole import is_card_selected, select_wormhole

TIMEOUT = "TT_METAL_OPERATION_TIMEOUT_SECONDS"
DEVICES = "TT_VISIBLE_DEVICES"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Without any choice of a device, and as it was afterwards."""
    for name in ("TT_METAL_SIMULATOR", "TT_METAL_MOCK_CLUSTER_DESC_PATH", TIMEOUT, DEVICES):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def card(tmp_path, monkeypatch):
    (tmp_path / "0").touch()
    monkeypatch.setattr(wormhole, "DEVICE_FILES", tmp_path)


def test_card(card):
    """On a card a hang becomes an error, and the first card is used."""
    assert not select_wormhole().simulated
    assert is_card_selected()
    assert os.environ[TIMEOUT] == "3" and DEVICES not in os.environ


def test_card_by_its_id(card, monkeypatch):
    """A named card is used, whatever the environment says; its timeout may be chosen there."""
    monkeypatch.setenv(DEVICES, "0")
    monkeypatch.setenv(TIMEOUT, "30")
    select_wormhole("0000:02:00.0")
    assert os.environ[DEVICES] == "0000:02:00.0" and os.environ[TIMEOUT] == "30"


def test_simulator(card, tmp_path, monkeypatch):
    """A simulator, which computes for minutes, has no timeout and no number."""
    monkeypatch.setenv("TT_METAL_SIMULATOR", str(tmp_path))
    assert select_wormhole("1").simulated
    assert not is_card_selected()
    assert TIMEOUT not in os.environ and DEVICES not in os.environ
