"""The computer beside the card: priorities, processor, memory, clock and caches."""

from __future__ import annotations

import ctypes
import re
import shutil
from pathlib import Path

from pi0_ttnn_ros.doctor.finding import OK, UNKNOWN, WARNING, Finding, read
from pi0_ttnn_ros.system.scheduling import Priority

GIB = 2**30
CAP_SYS_NICE = 23
# The largest weight of a full-size model has 2 GiB in float32; it is read, converted and kept until it is written.
MIN_MEMORY_GIB = 4.0
# A full-size model converted at precision default, see docs/reference/graph.md.
MIN_DISK_GIB = 4.0
NOT_SYNCHRONIZED = 5  # what adjtimex returns then: TIME_ERROR


def real_time(root: Path) -> Finding:
    """Check that the node's threads may take their real-time priorities."""
    subject = "real-time priority"
    limit = re.search(r"^Max realtime priority\s+(\S+)", read(root / "proc/self/limits"), re.MULTILINE)
    if limit is None:
        return Finding(subject, UNKNOWN, "the system does not say")
    capabilities = re.search(r"^CapEff:\s+(\w+)", read(root / "proc/self/status"), re.MULTILINE)
    if capabilities and int(capabilities[1], 16) >> CAP_SYS_NICE & 1:
        return Finding(subject, OK, "permitted by CAP_SYS_NICE")
    if limit[1] == "unlimited" or int(limit[1]) >= Priority.COMMANDS:
        return Finding(subject, OK, f"permitted up to {limit[1]}")
    text = f"permitted up to {limit[1]}, the node asks for {int(Priority.COMMANDS)}: commands may be late under load"
    return Finding(subject, WARNING, text, "raise rtprio in /etc/security/limits.d: docs/how-to/real_time.md")


def governor(root: Path) -> Finding:
    """Check that no core clocks itself down between two inferences."""
    subject = "CPU governor"
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    names = sorted({read(file) for file in files} - {""})
    if not names:
        return Finding(subject, UNKNOWN, "the system does not say, as in a virtual machine")
    if names == ["performance"]:
        return Finding(subject, OK, "performance")
    return Finding(subject, WARNING, ", ".join(names), "sudo cpupower frequency-set --governor performance")


def memory(root: Path) -> Finding:
    """Check that a checkpoint can be read and converted."""
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", read(root / "proc/meminfo"), re.MULTILINE))
    if "MemAvailable" not in sizes:
        return Finding("memory", UNKNOWN, "the system does not say")
    total, available = (int(sizes.get(name, 0)) / 2**20 for name in ("MemTotal", "MemAvailable"))
    text = f"{available:.1f} of {total:.1f} GiB available"
    if available >= MIN_MEMORY_GIB:
        return Finding("memory", OK, text)
    remedy = f"free memory: converting a full-size checkpoint takes about {MIN_MEMORY_GIB:g} GiB"
    return Finding("memory", WARNING, text, remedy)


def clock_state() -> int:
    """Return the state of the system's clock, as adjtimex(2) does; -1 where that is not permitted."""
    unchanged = ctypes.create_string_buffer(1024)  # more than a struct timex, whose `modes` is 0: only read
    return int(ctypes.CDLL(None).adjtimex(unchanged))


def clock(state: int) -> Finding:
    """Check that the system's clock is synchronised; `state` is what `clock_state` returns."""
    subject = "clock"
    if state < 0:
        return Finding(subject, UNKNOWN, "its synchronisation cannot be read here")
    if state != NOT_SYNCHRONIZED:
        return Finding(subject, OK, "synchronised")
    text = "not synchronised: stamps of cameras and robots on other computers may count as stale"
    return Finding(
        subject, WARNING, text, "start chrony or systemd-timesyncd on each computer: sudo timedatectl set-ntp true"
    )


def weight_cache(folder: Path) -> Finding:
    """Check that converted weights can be kept on disk."""
    size = folder_size(folder)
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free / GIB
    text = f"{size / GIB:.1f} GiB in {folder}, {free:.1f} GiB free"
    if free >= MIN_DISK_GIB:
        return Finding("weight cache", OK, text)
    remedy = f"free {MIN_DISK_GIB:g} GiB for a model, or name another disk's folder in PI0_TTNN_CACHE"
    return Finding("weight cache", WARNING, text, remedy)


def kernel_cache(folder: Path) -> Finding:
    """Check that kernels were compiled before."""
    size = folder_size(folder)
    if size:
        return Finding("kernel cache", OK, f"{size / GIB:.1f} GiB in {folder}")
    text = f"{folder} is empty: the first inference compiles its kernels, which takes minutes"
    return Finding(
        "kernel cache", WARNING, text, "run pi0-ttnn validate once, or raise load_timeout for the first configure"
    )


def folder_size(folder: Path) -> int:
    """Return the size of all files in a folder, bytes; 0 if it does not exist."""
    size = 0
    for file in folder.rglob("*"):
        try:
            size += file.lstat().st_size
        except OSError:
            continue  # removed since it was listed
    return size
