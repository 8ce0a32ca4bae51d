"""Run LeRobot on the cases of test/support/peer_cases.py, and write or check its results.

Needs LeRobot's own environment, see `make_peer_fixtures`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from openpi_client import image_tools

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from lerobot_peer import LeRobotPeer

from support import peer_cases
from support.peer_cases import CASES, DETAILED, RAW, RESIZED, SMALL

FIXTURES = ROOT / "test" / "data" / "lerobot"
# On another processor, or with another number of threads, float32 sums have another order.
TOLERANCE = 2e-5


def main() -> None:
    """Write the fixtures, or with --check compare; exit with status 1 on differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the existing fixtures")
    check = parser.parse_args().check
    torch.manual_seed(0)
    if not check:
        write(FIXTURES)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        problems = compare(Path(folder), FIXTURES)
    print("\n".join(problems) or "the fixtures equal LeRobot's results")
    sys.exit(1 if problems else 0)


def write(out: Path) -> None:
    """Compute all results and write them into the folder `out`."""
    for family, config in SMALL.items():
        folder = out / family
        folder.mkdir(parents=True, exist_ok=True)
        peer = LeRobotPeer(family, config, folder)
        results = {}
        for name, case in CASES.items():
            results |= {f"{name}.{key}": value for key, value in peer.run(case, detailed=name == DETAILED).items()}
        for name in RAW:
            results[f"raw.{name}.actions"] = peer.run_raw(name)
        np.savez_compressed(folder / "results.npz", **results)
        print(f"{family}: {len(results)} results of {len(CASES) + len(RAW)} cases")
    resizes = {}
    for height, width in peer_cases.RESIZES:
        image = peer_cases.resize_image(height, width)
        resizes[f"lerobot.{height}x{width}"] = LeRobotPeer.resize(image)
        resizes[f"openpi.{height}x{width}"] = image_tools.resize_with_pad(image, RESIZED, RESIZED)
    np.savez_compressed(out / "resizes.npz", **resizes)


def compare(new: Path, old: Path) -> list[str]:
    """Return the differences between the files of two folders, in words."""
    problems = []
    names = {str(file.relative_to(folder)) for folder in (new, old) for file in folder.rglob("*") if file.is_file()}
    for name in sorted(names):
        if not (new / name).exists() or not (old / name).exists():
            problems.append(f"{name} is only in one of the two")
        elif name.endswith(".npz"):
            problems += [
                f"{name}: {problem}" for problem in _array_differences(np.load(new / name), np.load(old / name))
            ]
        elif (new / name).read_bytes() != (old / name).read_bytes():
            problems.append(f"{name} differs")
    return problems


def _array_differences(new: np.lib.npyio.NpzFile, old: np.lib.npyio.NpzFile) -> list[str]:
    if set(new) != set(old):
        return [f"arrays {sorted(set(new) ^ set(old))} are only in one of the two"]
    differences = {key: float(np.abs(new[key].astype(np.float64) - old[key]).max()) for key in new}
    return [f"{key} differs by {value:.1e}" for key, value in differences.items() if not value <= TOLERANCE]


if __name__ == "__main__":
    main()
