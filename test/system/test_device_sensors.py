"""Readings of the cards, from a copy of the driver's files."""

from __future__ import annotations

import pytest

from pi0_ttnn_ros.system.device_sensors import card_readings

FILES = {"name": "wormhole\n", "temp1_input": "46375\n", "temp1_label": "asic1_temp\n"}
FILES |= {"power1_input": "31000000\n", "in0_input": "740\n", "in0_label": "vcore1\n", "temp1_max": "75000\n"}


@pytest.mark.parametrize("folder", ["device/hwmon/hwmon3", "hwmon/hwmon3"])
def test_device_sensors(tmp_path, folder):
    """Each hwmon sensor is read with its label and unit."""
    for card in ("tenstorrent!0", "tenstorrent!1"):
        monitor = tmp_path / card / folder
        monitor.mkdir(parents=True)
        for name, text in FILES.items():
            (monitor / name).write_text(text)
    (tmp_path / "tenstorrent!1" / folder / "power1_input").write_text("not now\n")
    assert card_readings(tmp_path) == {
        "card 0 asic1_temp (degC)": 46.375,
        "card 0 power1 (W)": 31.0,
        "card 0 vcore1 (V)": 0.74,
        "card 1 asic1_temp (degC)": 46.375,
        "card 1 vcore1 (V)": 0.74,
    }


def test_device_sensors_without_card(tmp_path):
    """Without a card or without sensors there are no values."""
    assert card_readings(tmp_path / "tenstorrent") == {}
    (tmp_path / "tenstorrent!0" / "device").mkdir(parents=True)
    assert card_readings(tmp_path) == {}
