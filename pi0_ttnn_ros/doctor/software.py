"""Python, its packages, ROS 2 and the compiler of kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pi0_ttnn_core.wormhole import TTNN_VERSION, has_sfpi
from pi0_ttnn_ros.doctor.finding import ERROR, OK, UNKNOWN, WARNING, Finding

# ROS 2's default from Humble on.
DEFAULT_RMW = "rmw_fastrtps_cpp"
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
INSTALL_ROS = "install ROS 2, or source it: . /opt/ros/<distribution>/setup.bash"


def python_version(version: tuple[int, ...]) -> Finding:
    """Check the version of Python, such as (3, 12, 1)."""
    text = ".".join(map(str, version))
    if (3, 10) <= version[:2] <= (3, 12):
        return Finding("Python", OK, text)
    return Finding("Python", ERROR, text, "use Python 3.10 or 3.12, which ttnn and ROS 2 have packages for")


def torch_version(version: str) -> Finding:
    """Check the version of torch, empty if it is not installed."""
    if version:
        return Finding("torch", OK, version)
    return Finding("torch", ERROR, "not installed", "pip install pi0_ttnn_ros, which brings it")


def ttnn_version(version: str) -> Finding:
    """Check the version of ttnn, empty if it is not installed."""
    if version == TTNN_VERSION:
        return Finding("ttnn", OK, version)
    return Finding(
        "ttnn", ERROR, version or "not installed", f"pip install ttnn=={TTNN_VERSION}, the only supported one"
    )


def sfpi(folders: Sequence[Path]) -> Finding:
    """Check for the compiler of kernels in the folders where ttnn looks for it."""
    for folder in folders:
        if has_sfpi(folder):
            return Finding("SFPI", OK, str(folder))
    remedy = "install it from Tenstorrent's release page, or with scripts/setup"
    return Finding("SFPI", ERROR, f"not in {' or '.join(map(str, folders)) or 'the package ttnn'}", remedy)


def ros(environment: Mapping[str, str], rclpy_found: bool) -> Finding:
    """Check that ROS 2 is there; without it everything but the node works."""
    if not rclpy_found:
        return Finding("ROS 2", ERROR, "rclpy is not found: the node cannot run", INSTALL_ROS)
    return Finding("ROS 2", OK, environment.get("ROS_DISTRO") or "rclpy is found; ROS_DISTRO does not say of which")


def rmw(environment: Mapping[str, str]) -> Finding:
    """Check that the middleware is installed."""
    name = rmw_name(environment)
    chosen = "RMW_IMPLEMENTATION" if environment.get("RMW_IMPLEMENTATION") else "the default"
    prefixes = list(filter(None, environment.get("AMENT_PREFIX_PATH", "").split(":")))
    if not prefixes:
        return Finding("RMW", UNKNOWN, f"{name}, {chosen}; no ROS 2 is sourced", INSTALL_ROS)
    if any((Path(prefix) / "share/ament_index/resource_index/packages" / name).exists() for prefix in prefixes):
        return Finding("RMW", OK, f"{name}, {chosen}")
    remedy = f"install it (apt-get install ros-<distribution>-{name.replace('_', '-')}) or unset RMW_IMPLEMENTATION"
    return Finding("RMW", ERROR, f"{name}, {chosen}, is not installed", remedy)


def rmw_name(environment: Mapping[str, str]) -> str:
    """Return the name of the middleware that ROS 2 loads."""
    return environment.get("RMW_IMPLEMENTATION") or DEFAULT_RMW


def fast_dds_profile(environment: Mapping[str, str]) -> Finding:
    """Check that a profile gives Fast DDS the shared memory that raw images need."""
    subject = "Fast DDS profile"
    if not rmw_name(environment).startswith("rmw_fastrtps"):
        return Finding(subject, OK, f"not needed by {rmw_name(environment)}")
    file = next((environment[name] for name in PROFILE_VARIABLES if environment.get(name)), "")
    if file and Path(file).is_file():
        return Finding(subject, OK, file)
    text = f"{file} does not exist" if file else "not set: raw images may be lost without a word"
    return Finding(
        subject, WARNING, text, f"export {PROFILE_VARIABLES[0]}=.../config/fastdds.xml: docs/how-to/fast_dds.md"
    )


def messages(found: bool) -> Finding:
    """Check that the package's messages are built."""
    if found:
        return Finding("messages", OK, "built")
    remedy = "build the package with colcon and source its install/setup.bash, or run scripts/setup"
    return Finding("messages", ERROR, "pi0_ttnn_ros.msg is not found: the node cannot run", remedy)
