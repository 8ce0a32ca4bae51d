"""All checks, in the order in which they are printed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pi0_ttnn_core.wormhole import cache_root, find_wormhole, sfpi_folders
from pi0_ttnn_ros.doctor import card, computer, software
from pi0_ttnn_ros.doctor.finding import Finding


def all_checks(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Return what every check found.

    Args:
        root: the folder of sys, proc and dev: / but in tests.
        environment: the environment variables.
    """
    return [
        software.python_version(sys.version_info[:3]),
        software.torch_version(_installed("torch")),
        software.ttnn_version(_installed("ttnn")),
        software.sfpi(_sfpi_folders()),
        software.ros(environment, _is_found("rclpy")),
        software.rmw(environment),
        software.fast_dds_profile(environment),
        software.messages(_is_found("pi0_ttnn_ros.msg")),
        computer.real_time(root),
        computer.governor(root),
        computer.memory(root),
        computer.clock(computer.clock_state()),
        computer.weight_cache(cache_root()),
        computer.kernel_cache(_kernel_cache(environment)),
        card.device(find_wormhole()),
        card.driver(root),
        *card.cards(root),
    ]


def _installed(package: str) -> str:
    """Return the version of a package; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _is_found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _sfpi_folders() -> tuple[Path, ...]:
    ttnn = importlib.util.find_spec("ttnn")
    return sfpi_folders(Path(ttnn.origin).parent) if ttnn and ttnn.origin else ()


def _kernel_cache(environment: Mapping[str, str]) -> Path:
    """Return where ttnn keeps compiled kernels."""
    named = environment.get("TT_METAL_CACHE")
    return Path(named) if named else Path("~/.cache/tt-metal-cache").expanduser()
