"""The files of this package that are no modules: set-ups of robots, definitions of messages."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = "pi0_ttnn_ros"


def package_file(folder: str, name: str) -> Path:
    """Return a file of `config`, `launch` or `msg`: of the source tree, as pip installed it, or as colcon did.

    Raises:
        FileNotFoundError: it is nowhere; the message lists what is there.
    """
    here = Path(__file__).resolve().parent
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders = [here.parent / folder, here / "share" / folder]
    folders += [Path(prefix) / "share" / PACKAGE / folder for prefix in prefixes if prefix]
    for candidate in folders:
        if (candidate / name).is_file():
            return candidate / name
    there = sorted({file.name for candidate in folders if candidate.is_dir() for file in candidate.iterdir()})
    raise FileNotFoundError(f"{PACKAGE} has no {folder}/{name}; there are {there}")
