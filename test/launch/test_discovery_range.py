"""The launch argument `discovery_range`: which machines may discover the nodes."""

from __future__ import annotations

import os
import sys

import pytest

from support.reasons import OVERLAY

pytest.importorskip("launch_ros", reason=OVERLAY)

from launch import LaunchDescription, LaunchService
from launch.actions import ExecuteProcess
from launch.launch_description_sources import get_launch_description_from_python_launch_file

from pi0_ttnn_ros.rclpy_utils.launch import discovery_range
from pi0_ttnn_ros.system.package_files import package_file

RANGE, LOCALHOST_ONLY = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """A function that returns what a launched process has in a variable, in a shell where that is `before`."""

    def launched(variable: str, before: str, default: str) -> str:
        monkeypatch.setenv(variable, before)
        written = tmp_path / "seen"
        program = f"import os, pathlib; pathlib.Path({str(written)!r}).write_text(os.environ[{variable!r}])"
        process = ExecuteProcess(cmd=[sys.executable, "-c", program])
        service = LaunchService(noninteractive=True)
        service.include_launch_description(LaunchDescription([*discovery_range(default), process]))
        assert service.run() == 0
        return written.read_text()

    return launched


def test_range_reaches_the_nodes(seen, monkeypatch):
    """The default and the argument replace what the environment says; empty leaves it."""
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    assert seen(RANGE, "SUBNET", "LOCALHOST") == "LOCALHOST"
    assert seen(RANGE, "OFF", "") == "OFF"


def test_range_on_humble(seen, monkeypatch):
    """Humble has only the choice of this machine or all."""
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert seen(LOCALHOST_ONLY, "0", "LOCALHOST") == "1"
    assert seen(LOCALHOST_ONLY, "1", "SUBNET") == "0"


DEFAULTS = {"demo": "LOCALHOST", "mock_ros2_control": "LOCALHOST", "replay": "LOCALHOST", "policy": "", "record": ""}


@pytest.mark.parametrize("file", DEFAULTS)
def test_every_launch_file_has_the_argument(file):
    """What plays a robot stays on this machine unless told otherwise."""
    description = get_launch_description_from_python_launch_file(os.fspath(package_file("launch", f"{file}.launch.py")))
    (argument,) = (each for each in description.get_launch_arguments() if each.name == "discovery_range")
    assert "".join(part.text for part in argument.default_value) == DEFAULTS[file]
