"""Sensors of Tenstorrent cards, as their kernel driver reports them through Linux's hwmon."""

from __future__ import annotations

from pathlib import Path

CARDS = Path("/sys/class/tenstorrent")
# hwmon's kind of sensor -> its unit, and how many of the file's units make one (kernel: hwmon/sysfs-interface).
UNITS = {"temp": ("degC", 1000), "power": ("W", 1_000_000), "curr": ("A", 1000), "in": ("V", 1000)}


def card_readings(cards: Path = CARDS) -> dict[str, float]:
    """Return temperature, power, current and voltage of each card, by names such as "card 0 asic1_temp (degC)".

    Empty if there is no card, or if its driver or firmware reports nothing.
    """
    readings = {}
    for card in sorted(cards.glob("tenstorrent*")):
        for monitor in monitors(card):
            for kind, (unit, scale) in UNITS.items():
                for file in sorted(monitor.glob(f"{kind}[0-9]*_input")):
                    name = file.name.removesuffix("_input")
                    try:
                        value = int(file.read_text()) / scale
                        label = monitor / f"{name}_label"
                        name = label.read_text().strip() if label.exists() else name
                    except (OSError, ValueError):
                        continue  # a card that is being reset cannot be read
                    readings[f"card {card_number(card)} {name} ({unit})"] = value
    return readings


def monitors(card: Path) -> list[Path]:
    """Return the folders of a card's sensors: they belong to the PCI device or, with other drivers, to the card."""
    return sorted([*card.glob("device/hwmon/hwmon*"), *card.glob("hwmon/hwmon*")])


def card_number(card: Path) -> str:
    """Return the number of a card's folder, as of its file in /dev/tenstorrent."""
    return card.name.removeprefix("tenstorrent").strip("!")
