"""The package as others see it: its manifest, its messages, its install space."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.joint_limits import joint_limits
from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from pi0_ttnn_ros.replay.report.thresholds import replay_settings
from support.processes import without_ros_environment

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, cwd: Path, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_package_xml_dependencies():
    """package.xml is valid, and rosdep can install each dependency."""
    catkin_pkg = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg is not installed")
    package = catkin_pkg.parse_package(str(ROOT / "package.xml"), warnings=(warnings := []))
    assert not warnings
    assert package.name == "pi0_ttnn_ros" and package.licenses == ["Apache-2.0"]
    names = {dependency.name for dependency in package.exec_depends + package.test_depends}
    assert {"rclpy", "sensor_msgs", "trajectory_msgs", "launch_ros", "rosidl_default_runtime"} <= names
    assert not {name for name in names if name.endswith("-pip") or name in ("torch", "ttnn")}


@pytest.mark.parametrize("folder", ["pi0_ttnn_ros", "launch"])
def test_package_xml_names_imported_ros_packages(folder):
    """package.xml names each ROS package that is imported."""
    ros = re.compile(r"\w+_(?:msgs|interfaces)|rclpy|launch|launch_ros|ament_index_python")
    files = (ROOT / folder).rglob("*.py")
    imported = {
        name for file in files for name in re.findall(r"^\s*(?:from|import) (\w+)", file.read_text(), re.MULTILINE)
    }
    packages = set(filter(ros.fullmatch, imported))
    assert packages & {"rclpy", "launch"}
    manifest = (ROOT / "package.xml").read_text()
    assert not [name for name in packages if f"depend>{name}</" not in manifest]


def test_setup_py_and_package_xml_agree():
    setup, manifest = (ROOT / "setup.py").read_text(), (ROOT / "package.xml").read_text()
    version = re.search(r'version="([\d.]+)",', setup)
    assert version and f"<version>{version[1]}</version>" in manifest
    assert "Apache License" in (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("message", sorted((ROOT / "msg").glob("*.msg")), ids=lambda path: path.stem)
def test_every_field_of_a_message_is_explained(message):
    fields = [line for line in message.read_text().splitlines() if line and not line.startswith("#")]
    assert fields
    for line in fields:
        assert re.search(r"# \S.{10,}", line), line


def test_messages_import_with_the_source_first_on_the_path(tmp_path):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    code = "import pi0_ttnn_ros, pi0_ttnn_ros.msg as m; print(pi0_ttnn_ros.__file__); m.ActionChunk(); m.PolicyStatus()"
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    assert Path(python(code, tmp_path, PYTHONPATH=path)).parent.parent == ROOT


def test_install_space_is_complete(tmp_path):
    """The installed package works without the source tree."""
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from ament_index_python.packages import get_package_prefix

    prefix = Path(get_package_prefix("pi0_ttnn_ros"))
    path = os.pathsep.join(part for part in os.environ["PYTHONPATH"].split(os.pathsep) if Path(part) != ROOT)
    code = (
        "import pi0_ttnn_core, pi0_ttnn_ros.node.policy_node as n, pi0_ttnn_ros.msg as m; "
        "print(n.__file__); m.ActionChunk()"
    )
    node = Path(python(code, tmp_path, PYTHONPATH=path))
    assert prefix in node.parents and (node.parents[1] / "replay/report/page.html.jinja").exists()
    for executable in ("policy_node", "sim_robot", "interbotix_bridge"):
        assert os.access(prefix / "lib/pi0_ttnn_ros" / executable, os.X_OK)
    share = prefix / "share/pi0_ttnn_ros"
    for file in (
        "launch/policy.launch.py",
        "launch/demo.launch.py",
        "config/aloha.yaml",
        "config/demo.yaml",
        "config/fastdds.xml",
    ):
        assert (share / file).exists()


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_robot_parameters(file):
    """The parameters of each robot in config/ are valid."""
    parameters = parameters_from_yaml(file, {"checkpoint": "anywhere"})
    limits = joint_limits(parameters, urdf=lambda missing: pytest.fail(f"{missing} are not set") if missing else "")
    assert replay_settings(file, parameters.joint_names).grippers
    assert list(limits.joint_names) == parameters.joint_names
    for name, controller in parameters.controllers.items():
        assert not controller.type.endswith("gripper_command") or len(controller.joints) == 1, name


@pytest.mark.parametrize(
    ("overrides", "culprit"),
    [
        ({"time_step": 1}, "time_step is 1, but must be of type double: write 1.0"),
        ({"cameras": "base_0_rgb"}, "cameras is 'base_0_rgb', but must be of type string array"),
        ({"inference_rate": 1000.0}, "inference_rate is 1000.0, but must be from 0.1 to 100"),
        ({"checkpoint": ""}, "checkpoint is not set"),
        ({"strategy": "fast"}, "strategy is 'fast'"),
    ],
)
def test_a_wrong_parameter_is_named(overrides, culprit):
    with pytest.raises(ParameterError, match=re.escape(culprit)):
        parameters_from_yaml(ROOT / "config/aloha.yaml", {"checkpoint": "anywhere"} | overrides)


def test_the_command_works_without_ros(tmp_path):
    command = Path(sys.executable).with_name("pi0-ttnn")
    if not command.exists():
        pytest.skip("the package is not installed with pip in this Python")
    run = subprocess.run(
        [command, "make-checkpoint", "--config", "tiny", "--out", tmp_path / "tiny"],
        cwd=tmp_path,
        env=without_ros_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "tiny/model.safetensors").exists()


def test_without_extras(tiny_checkpoint, tmp_path):
    """Installed without [ros] and [replay], the command line still compares a checkpoint with a robot."""
    code = (
        "import sys; sys.modules |= dict.fromkeys(['cv2', 'urdf_parser_py', 'rosbags', 'mcap', 'rclpy']); "
        f"sys.argv = ['pi0-ttnn', 'inspect', {str(tiny_checkpoint)!r}, '--robot', 'aloha']; "
        "from pi0_ttnn_ros.cli.main import main; main()"
    )
    assert "base_0_rgb" in python(code, tmp_path)
