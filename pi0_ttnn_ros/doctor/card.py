"""The cards, as Linux and Tenstorrent's kernel driver show them in their files. Nothing is opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pi0_ttnn_core.wormhole import Wormhole
from pi0_ttnn_ros.doctor.finding import ERROR, OK, UNKNOWN, WARNING, Finding, read, version_numbers
from pi0_ttnn_ros.system.device_sensors import UNITS, card_number, card_readings, monitors

TENSTORRENT = "0x1e52"  # the vendor's PCI id
# What the driver library of the supported ttnn accepts.
MIN_DRIVER = (2, 0, 0)
MIN_FIRMWARE = (18, 3, 0)
OLD_FIRMWARE = 80  # firmware bundles were numbered 80.x before they were 18.x
WORMHOLES = ("n150", "n300", "galaxy-wormhole")
NOT_REPORTED = "the driver does not report it"
NEWER_FIRMWARE = "update the firmware: tt-flash"


def device(found: Wormhole | str) -> Finding:
    """Check that there is something to run on; `found` is what `find_wormhole` returns."""
    if isinstance(found, str):
        return Finding(
            "device", ERROR, found, "install card and driver (docs/how-to/wormhole.md), or use backend torch"
        )
    if found.simulated:
        return Finding("device", WARNING, found.name, "for tests only: a robot needs a card")
    return Finding("device", OK, found.name)


def driver(root: Path) -> Finding:
    """Check the kernel driver."""
    version = read(root / "sys/module/tenstorrent/version")
    if version:
        if version_numbers(version) >= MIN_DRIVER:
            return Finding("driver", OK, f"tt-kmd {version}")
        text = f"tt-kmd {version}, but ttnn requires {'.'.join(map(str, MIN_DRIVER))}"
        return Finding("driver", ERROR, text, "install a newer tt-kmd and load it")
    vendors = [read(file) for file in (root / "sys/bus/pci/devices").glob("*/vendor")]
    count = vendors.count(TENSTORRENT)
    if count:
        text = f"tt-kmd is not loaded, but {count} Tenstorrent card(s) are on the PCI bus"
        return Finding("driver", ERROR, text, "install tt-kmd with dkms, then: sudo modprobe tenstorrent")
    return Finding("driver", UNKNOWN, "tt-kmd is not loaded, and no Tenstorrent card is on the PCI bus")


def cards(root: Path) -> list[Finding]:
    """Check each card; without any, all of it is unknown."""
    folders = sorted((root / "sys/class/tenstorrent").glob("tenstorrent*"), key=card_number)
    if not folders:
        return [Finding(f"card: {subject}", UNKNOWN, "no card") for subject in CHECKS]
    findings = []
    for folder in folders:
        for subject, check in CHECKS.items():
            level, text, remedy = check(folder, root)
            findings.append(Finding(f"card {card_number(folder)}: {subject}", level, text, remedy))
    return findings


Result = tuple[str, str, str]  # level, text, remedy


def permission(card: Path, root: Path) -> Result:
    """Check that this user may open the card."""
    file = root / "dev/tenstorrent" / card_number(card)
    if not file.exists():
        return ERROR, f"{file} does not exist", "in a container, pass it on: docker run --device /dev/tenstorrent"
    if os.access(file, os.R_OK | os.W_OK):
        return OK, f"{file} can be opened", ""
    return ERROR, f"{file} cannot be opened by this user", "install the driver's udev rule, which permits all users"


def model(card: Path, root: Path) -> Result:
    """Check that the card is a Wormhole."""
    name = read(card / "tt_card_type")
    if not name:
        return UNKNOWN, NOT_REPORTED, ""
    if name in WORMHOLES:
        return OK, f"{name}, PCI {pci_address(card)}", ""
    return ERROR, f"{name} is not a Wormhole", "use an n150 or n300, the only cards that this backend supports"


def firmware(card: Path, root: Path) -> Result:
    """Check the version of the firmware."""
    version = read(card / "tt_fw_bundle_ver")
    numbers = version_numbers(version)
    if not numbers:
        return UNKNOWN, NOT_REPORTED, ""
    if numbers[0] < OLD_FIRMWARE and numbers >= MIN_FIRMWARE:
        return OK, version, ""
    return ERROR, f"{version}, but ttnn requires {'.'.join(map(str, MIN_FIRMWARE))}", NEWER_FIRMWARE


def link(card: Path, root: Path) -> Result:
    """Check that the PCIe link is as fast and as wide as card and slot allow."""
    speed, width, most_speed, most_width = (
        read(card / "device" / name)
        for name in ("current_link_speed", "current_link_width", "max_link_speed", "max_link_width")
    )
    if not (speed and width):
        return UNKNOWN, NOT_REPORTED, ""
    text = f"{speed}, x{width}"
    if (speed, width) == (most_speed, most_width):
        return OK, text, ""
    return WARNING, f"{text}, but the card can {most_speed}, x{most_width}", "reseat the card, or use another slot"


def host_memory(card: Path, root: Path) -> Result:
    """Check that the card can reach memory of the host: through the IOMMU, or in huge pages."""
    kind = read(card / "device/iommu_group/type")
    if kind.startswith("DMA"):
        return OK, "through the IOMMU", ""
    pages = read(root / "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages") or "0"
    mounted = any(
        fields[2:3] == ["hugetlbfs"] and "pagesize=1024M" in fields[3]
        for fields in map(str.split, read(root / "proc/mounts").splitlines())
    )
    text = f"no IOMMU; {pages} huge pages of 1 GiB, {'mounted' if mounted else 'not mounted'}"
    if int(pages) and mounted:
        return OK, text, ""
    return ERROR, text, "install tenstorrent-tools (tenstorrent/tt-system-tools) and restart, or enable the IOMMU"


def clock(card: Path, root: Path) -> Result:
    """Report the clock of the cores now; a card at rest lowers it."""
    value = read(card / "tt_aiclk")
    return (OK, f"{value} MHz now", "") if value else (UNKNOWN, NOT_REPORTED, "")


def dram(card: Path, root: Path) -> Result:
    """Say where DRAM is reported: the driver has no file for it."""
    return UNKNOWN, f"{NOT_REPORTED}; tt-smi shows it", ""


def sensors(card: Path, root: Path) -> Result:
    """Check that the card is not too hot; report its power."""
    number = card_number(card)
    prefix = f"card {number} "
    readings = {
        name.removeprefix(prefix): value
        for name, value in card_readings(card.parent).items()
        if name.startswith(prefix) and name.endswith(("(degC)", "(W)"))
    }
    if not readings:
        return UNKNOWN, NOT_REPORTED, ""
    text = ", ".join(f"{name} {value:.1f}" for name, value in readings.items())
    limits = [read(file) for monitor in monitors(card) for file in monitor.glob("temp*_max")]
    limit = min((int(value) / UNITS["temp"][1] for value in limits if value.isdigit()), default=None)
    hottest = max((value for name, value in readings.items() if name.endswith("(degC)")), default=0.0)
    if limit is not None and hottest >= limit:
        return WARNING, f"{text}; it slows down at {limit:g} degC", "cool the card: air flow, ambient temperature, dust"
    return OK, text, ""


def pci_address(card: Path) -> str:
    """Return the card's address on the PCI bus, such as 0000:02:00.0."""
    return (card / "device").resolve().name


CHECKS: dict[str, Callable[[Path, Path], Result]] = {
    "permission": permission,
    "model": model,
    "firmware": firmware,
    "PCIe link": link,
    "memory of the host": host_memory,
    "AICLK": clock,
    "DRAM": dram,
    "temperature and power": sensors,
}
