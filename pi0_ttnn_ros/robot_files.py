"""The parameter file of a robot, by the name of its set-up."""

from __future__ import annotations

from pathlib import Path

from pi0_ttnn_ros.package_files import package_file


def robot_file(robot: str) -> Path:
    """Return the parameter file of a robot: `robot` is the name of a set-up in `config/`, or the file itself.

    Raises:
        FileNotFoundError: there is none; the message lists those that there are.
    """
    if robot.endswith((".yaml", ".yml")):
        return Path(robot)
    return package_file("config", f"{robot}.yaml")
