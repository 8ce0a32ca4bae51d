"""pi0-ttnn bench model: time of one inference and peak memory, ours and optionally LeRobot's.

Each side runs in its own process, one after the other, with the same random checkpoint, inputs and number of threads;
the actions are compared.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pi0_ttnn_core.backend import BackendError
from pi0_ttnn_core.model_inputs import random_inputs

ROOT = Path(__file__).resolve().parents[2]
PEER_PYTHON = ROOT / ".venv-peer" / "bin" / "python"
PEER_SCRIPT = ROOT / "scripts" / "peers" / "bench_lerobot.py"


@dataclass(frozen=True)
class Result:
    """The measurement of one side.

    Attributes:
        name: of the side.
        seconds: of each inference.
        peak_memory: resident, bytes.
        actions: float32 [1, horizon, action_dim], normalised.
    """

    name: str
    seconds: list[float]
    peak_memory: int
    actions: np.ndarray

    def __str__(self) -> str:
        return (
            f"{self.name}: {min(self.seconds):.2f} s (of {', '.join(f'{s:.2f}' for s in self.seconds)}), "
            f"peak memory {self.peak_memory / 2**30:.2f} GiB"
        )


def bench(checkpoint: Path, cameras: int, dtype: str, repeats: int, lerobot: bool) -> None:
    """Measure, and print a line for each side, their ratio and the difference of their actions.

    Raises:
        BackendError: LeRobot is not installed.
    """
    options = json.dumps({"checkpoint": str(checkpoint), "cameras": cameras, "dtype": dtype, "repeats": repeats})
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; {cameras} of 3 cameras, {dtype}", flush=True)
    ours = _run([sys.executable, "-m", "pi0_ttnn_ros.bench.model", options])
    print(ours, flush=True)
    if not lerobot:
        return
    if not PEER_PYTHON.exists():
        raise BackendError(f"{PEER_PYTHON} is missing: scripts/peers/make_peer_fixtures installs LeRobot there")
    theirs = _run([str(PEER_PYTHON), str(PEER_SCRIPT), options])
    print(theirs)
    difference = np.abs(ours.actions - theirs.actions).max()
    print(f"ratio: {min(theirs.seconds) / min(ours.seconds):.2f}, largest difference of an action {difference:.1e}")


def measure(name: str, infer: Callable[[int], np.ndarray], repeats: int, out: Path) -> None:
    """Call `infer(num_steps)` with one step to warm up, then `repeats` times with ten; write a Result to `out`."""
    infer(1)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        actions = infer(10)
        seconds.append(time.perf_counter() - start)
    np.savez(out, name=name, seconds=seconds, peak_memory=peak_memory(), actions=actions)


def peak_memory() -> int:
    """Return the peak of this process's resident memory, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _run(command: list[str]) -> Result:
    # These variables of ROS 2's wheels would mislead the Python of another environment.
    environment = {key: value for key, value in os.environ.items() if key != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    environment.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.npz"
        subprocess.run([*command, str(out)], check=True, env=environment, cwd=ROOT)
        with np.load(out) as archive:
            return Result(
                str(archive["name"]), archive["seconds"].tolist(), int(archive["peak_memory"]), archive["actions"]
            )


def main() -> None:
    """Measure our side and print what loading took; takes the options as JSON, and the file to write."""
    from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
    from pi0_ttnn_core.reference.backend import TorchBackend

    options = json.loads(sys.argv[1])
    checkpoint = open_checkpoint(options["checkpoint"])
    backend = TorchBackend(checkpoint, options["dtype"])
    weights = sum(weight.nbytes for weight in backend.model.parameters())
    print(
        f"loading: peak memory {peak_memory() / 2**30:.2f} GiB, {peak_memory() / weights:.2f} x the weights", flush=True
    )
    inputs = random_inputs(checkpoint.config, options["cameras"])
    measure(
        f"torch backend on {backend.device}",
        lambda steps: backend.sample_actions(inputs, steps),
        options["repeats"],
        Path(sys.argv[2]),
    )


if __name__ == "__main__":
    main()
