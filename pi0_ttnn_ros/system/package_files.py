"""Files of this package that are not modules: robots' parameter files, message definitions."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

PACKAGE = "pi0_ttnn_ros"


def package_file(folder: str, name: str) -> Path:
    """Return a file of `config`, `launch` or `msg`, from the source tree or as installed by pip or colcon.

    Raises:
        FileNotFoundError: there is no such file; the message lists those that exist.
    """
    here = Path(__file__).resolve().parents[1]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders = [here.parent / folder, here / "share" / folder]
    folders += [Path(prefix) / "share" / PACKAGE / folder for prefix in prefixes if prefix]
    for candidate in folders:
        if (candidate / name).is_file():
            return candidate / name
    there = sorted({file.name for candidate in folders if candidate.is_dir() for file in candidate.iterdir()})
    raise FileNotFoundError(f"{PACKAGE} has no {folder}/{name}; choose from {there}")


def robot_file(robot: str) -> Path:
    """Return the parameter file of a robot; `robot` is the name of a file in `config/`, or the file itself.

    Raises:
        FileNotFoundError: there is no such robot; the message lists those that exist.
    """
    if robot.endswith((".yaml", ".yml")):
        return Path(robot)
    return package_file("config", f"{robot}.yaml")


def package_version() -> str:
    """Return this package's version as pip installed it, or from the manifest if colcon did."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return ElementTree.parse(package_file(".", "package.xml")).findtext("version", "")
