"""The checks of pi0-ttnn doctor, on made-up copies of the system's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from pi0_ttnn_core.wormhole import TTNN_VERSION, Wormhole
from pi0_ttnn_ros.doctor import card, computer, software
from pi0_ttnn_ros.doctor.finding import ERROR, OK, UNKNOWN, WARNING, Finding, exit_status
from support.processes import without_ros_environment

PCI = "sys/devices/pci0000:00/0000:02:00.0"
CLASS = "sys/class/tenstorrent/tenstorrent!0"
HUGE_PAGES = "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"
MOUNTED = "proc /proc proc rw 0 0\nhugetlbfs-1G /dev/hugepages-1G hugetlbfs rw,relatime,pagesize=1024M 0 0\n"
# A computer with an n150 that is as it should be.
FILES = {
    "sys/module/tenstorrent/version": "2.4.1",
    "dev/tenstorrent/0": "",
    f"{CLASS}/tt_card_type": "n150",
    f"{CLASS}/tt_fw_bundle_ver": "18.12.0.0",
    f"{CLASS}/tt_aiclk": "500",
    f"{PCI}/vendor": "0x1e52",
    f"{PCI}/current_link_speed": "16.0 GT/s PCIe",
    f"{PCI}/max_link_speed": "16.0 GT/s PCIe",
    f"{PCI}/current_link_width": "16",
    f"{PCI}/max_link_width": "16",
    f"{PCI}/hwmon/hwmon3/temp1_input": "46375",
    f"{PCI}/hwmon/hwmon3/temp1_label": "asic1_temp",
    f"{PCI}/hwmon/hwmon3/temp1_max": "75000",
    f"{PCI}/hwmon/hwmon3/power1_input": "31000000",
    HUGE_PAGES: "4",
    "proc/mounts": MOUNTED,
    "proc/self/limits": "Limit  Soft Limit  Hard Limit  Units\nMax realtime priority  99  99\n",
    "proc/self/status": "Name:\tpython\nCapEff:\t0000000000000000\n",
    "proc/meminfo": "MemTotal:       33554432 kB\nMemAvailable:   16777216 kB\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance",
}


@pytest.fixture
def machine(tmp_path):
    """Return a function that writes FILES with changes (None removes a file) and returns their root."""

    def write(**changes: str | None) -> Path:
        for name, text in (FILES | {name.replace("__", "/"): text for name, text in changes.items()}).items():
            if text is not None:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text + "\n")
        if (tmp_path / CLASS).exists():
            (tmp_path / CLASS / "device").symlink_to(tmp_path / PCI)
            bus = tmp_path / "sys/bus/pci/devices"
            bus.mkdir(parents=True)
            (bus / "0000:02:00.0").symlink_to(tmp_path / PCI)
        return tmp_path

    return write


def of_card(root: Path, subject: str) -> Finding:
    """Return what was found about the only card."""
    (finding,) = [finding for finding in card.cards(root) if finding.subject == f"card 0: {subject}"]
    return finding


def test_good_card(machine):
    """A card as it should be has no warning, and its values are given."""
    root = machine()
    findings = {finding.subject: finding for finding in [card.driver(root), *card.cards(root)]}
    assert exit_status(list(findings.values())) == 0
    assert {subject for subject, finding in findings.items() if finding.level != OK} == {"card 0: DRAM"}
    assert findings["driver"].text == "tt-kmd 2.4.1"
    assert findings["card 0: model"].text == "n150, PCI 0000:02:00.0"
    assert findings["card 0: PCIe link"].text == "16.0 GT/s PCIe, x16"
    assert findings["card 0: AICLK"].text == "500 MHz now"
    assert findings["card 0: temperature and power"].text == "asic1_temp (degC) 46.4, power1 (W) 31.0"


@pytest.mark.parametrize(
    ("file", "content", "subject", "level", "text"),
    [
        (f"{CLASS}/tt_card_type", "p150a", "model", ERROR, "p150a is not a Wormhole"),
        (f"{CLASS}/tt_card_type", None, "model", UNKNOWN, "the driver does not report it"),
        (f"{CLASS}/tt_fw_bundle_ver", "18.2.0.0", "firmware", ERROR, "18.2.0.0, but ttnn requires 18.3.0"),
        (f"{CLASS}/tt_fw_bundle_ver", "80.17.0.0", "firmware", ERROR, "80.17.0.0, but ttnn requires 18.3.0"),
        (f"{CLASS}/tt_fw_bundle_ver", "19.4.0.0", "firmware", OK, "19.4.0.0"),
        (f"{CLASS}/tt_fw_bundle_ver", None, "firmware", UNKNOWN, "the driver does not report it"),
        (f"{PCI}/current_link_width", "4", "PCIe link", WARNING, "x4, but the card can 16.0 GT/s PCIe, x16"),
        (f"{PCI}/current_link_speed", "2.5 GT/s PCIe", "PCIe link", WARNING, "2.5 GT/s PCIe, x16, but"),
        (f"{PCI}/current_link_speed", None, "PCIe link", UNKNOWN, "the driver does not report it"),
        (HUGE_PAGES, "0", "memory of the host", ERROR, "no IOMMU; 0 huge pages of 1 GiB, mounted"),
        ("proc/mounts", "proc /proc proc rw 0 0", "memory of the host", ERROR, "4 huge pages of 1 GiB, not mounted"),
        (f"{PCI}/iommu_group/type", "DMA-FQ", "memory of the host", OK, "through the IOMMU"),
        (f"{PCI}/iommu_group/type", "identity", "memory of the host", OK, "no IOMMU; 4 huge pages"),
        (f"{PCI}/hwmon/hwmon3/temp1_input", "76000", "temperature and power", WARNING, "it slows down at 75 degC"),
        ("dev/tenstorrent/0", None, "permission", ERROR, "does not exist"),
        (f"{CLASS}/tt_aiclk", None, "AICLK", UNKNOWN, "the driver does not report it"),
    ],
)
def test_card(machine, file, content, subject, level, text):
    """What is wrong with a card is found, with a remedy."""
    finding = of_card(machine(**{file: content}), subject)
    assert finding.level == level and text in finding.text
    assert bool(finding.remedy) == (level in (WARNING, ERROR))


@pytest.mark.parametrize(
    ("content", "level", "text"),
    [
        ("1.29", ERROR, "tt-kmd 1.29, but ttnn requires 2.0.0"),
        (None, ERROR, "tt-kmd is not loaded, but 1 Tenstorrent card(s) are on the PCI bus"),
    ],
)
def test_driver(machine, content, level, text):
    finding = card.driver(machine(**{"sys/module/tenstorrent/version": content}))
    assert (finding.level, finding.text) == (level, text) and finding.remedy


def test_without_a_card(tmp_path):
    """Without a card everything about it is unknown."""
    assert card.driver(tmp_path).level == UNKNOWN
    findings = card.cards(tmp_path)
    assert len(findings) == len(card.CHECKS)
    assert {(finding.level, finding.text) for finding in findings} == {(UNKNOWN, "no card")}


def test_device():
    assert card.device(Wormhole("Wormhole card", simulated=False)).level == OK
    assert card.device(Wormhole("a simulator", simulated=True)).level == WARNING
    finding = card.device("no Tenstorrent card")
    assert finding.level == ERROR and finding.text == "no Tenstorrent card"


def test_good_computer(machine):
    root = machine()
    findings = [computer.real_time(root), computer.governor(root), computer.memory(root), computer.clock(0)]
    assert [finding.level for finding in findings] == [OK] * 4
    assert [finding.text for finding in findings] == [
        "permitted up to 99",
        "performance",
        "16.0 of 32.0 GiB available",
        "synchronised",
    ]


@pytest.mark.parametrize(
    ("check", "file", "content", "level", "text"),
    [
        (computer.real_time, "proc/self/limits", "Max realtime priority     0     0", WARNING, "permitted up to 0"),
        (computer.real_time, "proc/self/limits", "Max realtime priority     19    99", WARNING, "permitted up to 19"),
        (computer.real_time, "proc/self/limits", "Max realtime priority  unlimited  unlimited", OK, "unlimited"),
        (computer.real_time, "proc/self/limits", None, UNKNOWN, ""),
        (computer.governor, "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave", WARNING, "powersave"),
        (computer.memory, "proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 2097152 kB", WARNING, "2.0 of 8.0 GiB"),
        (computer.memory, "proc/meminfo", None, UNKNOWN, ""),
    ],
)
def test_computer(machine, check, file, content, level, text):
    finding = check(machine(**{file: content}))
    assert finding.level == level and text in finding.text
    assert bool(finding.remedy) == (level == WARNING)


def test_capability_permits_real_time(machine):
    """CAP_SYS_NICE permits real-time priority whatever the limit is."""
    root = machine(proc__self__limits="Max realtime priority  0  0", proc__self__status="CapEff:\t0000000000800000")
    assert computer.real_time(root).level == OK


def test_governor_of_a_virtual_machine(tmp_path):
    assert computer.governor(tmp_path).level == UNKNOWN


def test_clock():
    assert computer.clock(5).level == WARNING
    assert computer.clock(-1).level == UNKNOWN
    assert computer.clock_state() in range(-1, 6)


def test_caches(tmp_path, monkeypatch):
    """The size of a cache is given; an empty kernel cache and a full disk are warnings."""
    kernels = tmp_path / "kernels"
    assert computer.kernel_cache(kernels).level == WARNING
    kernels.mkdir()
    (kernels / "kernel.elf").write_bytes(b"1" * 1000)
    assert computer.kernel_cache(kernels).level == OK
    assert computer.folder_size(kernels) == 1000
    usage = type("Usage", (), {"free": 20 * computer.GIB})
    monkeypatch.setattr(computer.shutil, "disk_usage", lambda folder: usage)
    assert computer.weight_cache(tmp_path / "none" / "yet").level == OK
    usage.free = computer.GIB
    assert computer.weight_cache(tmp_path).level == WARNING


def test_versions(tmp_path):
    """Python, torch, ttnn and its compiler."""
    levels = [software.python_version((3, minor, 0)).level for minor in (9, 10, 12, 13)]
    assert levels == [ERROR, OK, OK, ERROR]
    assert [software.torch_version(version).level for version in ("", "2.13.0")] == [ERROR, OK]
    assert [software.ttnn_version(version).level for version in ("", "0.80.0", TTNN_VERSION)] == [ERROR, ERROR, OK]
    assert software.sfpi([]).level == ERROR
    assert software.sfpi([tmp_path]).level == ERROR
    (tmp_path / "compiler/bin").mkdir(parents=True)
    (tmp_path / "compiler/bin/riscv-tt-elf-g++").touch()
    assert software.sfpi([Path("nowhere"), tmp_path]).level == OK


def test_ros(tmp_path):
    """ROS 2, its middleware and the package's messages."""
    assert software.ros({}, rclpy_found=False).level == ERROR
    assert software.ros({"ROS_DISTRO": "jazzy"}, rclpy_found=True) == Finding("ROS 2", OK, "jazzy")
    assert software.messages(found=False).level == ERROR and software.messages(found=True).level == OK
    assert software.rmw({}).level == UNKNOWN
    index = tmp_path / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "rmw_fastrtps_cpp").touch()
    assert software.rmw({"AMENT_PREFIX_PATH": f"/nowhere:{tmp_path}"}).level == OK
    missing = software.rmw({"AMENT_PREFIX_PATH": str(tmp_path), "RMW_IMPLEMENTATION": "rmw_zenoh_cpp"})
    assert missing.level == ERROR and "ros-<distribution>-rmw-zenoh-cpp" in missing.remedy


def test_fast_dds_profile(tmp_path):
    profile = tmp_path / "fastdds.xml"
    assert software.fast_dds_profile({}).level == WARNING
    assert software.fast_dds_profile({"FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)}).level == WARNING
    profile.touch()
    assert software.fast_dds_profile({"FASTDDS_DEFAULT_PROFILES_FILE": str(profile)}).level == OK
    assert software.fast_dds_profile({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}).level == OK


def test_exit_status():
    findings = [Finding("a", OK, ""), Finding("b", UNKNOWN, "")]
    assert exit_status(findings) == 0
    assert exit_status([*findings, Finding("c", WARNING, "")]) == 1
    assert exit_status([Finding("d", ERROR, ""), *findings, Finding("c", WARNING, "")]) == 2


def test_command_without_ros(tmp_path):
    """The command runs without ROS 2, on whatever computer, and its JSON says what its page says."""
    environment = without_ros_environment() | {"PI0_TTNN_CACHE": str(tmp_path), "TT_METAL_CACHE": str(tmp_path)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "pi0_ttnn_ros.cli.main", "doctor"]
    page, content = (
        subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
        for options in ([], ["--json"])
    )
    findings = [Finding(**entry) for entry in json.loads(content.stdout)]
    assert page.returncode == content.returncode == exit_status(findings), page.stderr
    assert page.returncode > 0  # the kernel cache is empty
    for finding in findings:
        assert {finding.level, *finding.subject.split()} <= set(page.stdout.split()), asdict(finding)
        assert finding.level in (OK, UNKNOWN) or finding.remedy in page.stdout


@pytest.mark.skipif(os.getuid() == 0, reason="root may open every file")
def test_permission(machine):
    root = machine()
    (root / "dev/tenstorrent/0").chmod(0)
    assert of_card(root, "permission").level == ERROR
