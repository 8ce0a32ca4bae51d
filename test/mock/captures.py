"""`pi0-ttnn graph --json` of the full-size models, in the background.

Compiling the kernels takes minutes, while nearly all other tests wait for nodes: the captures run at low priority.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

# Both models and both grids. The other two combinations are slow tests.
CAPTURES = ("pi0 8x8", "pi05 8x7")
SLOW_CAPTURES = ("pi05 8x8", "pi0 8x7")


class Captures:
    """Runs captures one after the other in a thread."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self._folder = folder
        self._names = names
        self._runs: dict[str, subprocess.CompletedProcess[str]] = {}
        self._running: subprocess.Popen[str] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._capture_all, daemon=True)
        self._thread.start()

    def folder(self, name: str) -> Path:
        """Wait for a capture and return the folder that holds its graph.json and page.md."""
        self._thread.join()
        run = self._runs[name]
        assert run.returncode == 0, run.stderr[-4000:]
        return self._folder / name

    def stop(self) -> None:
        """Stop the running capture, and start no others."""
        self._stopping = True
        if self._running is not None:
            self._running.kill()
        self._thread.join()

    def remove(self) -> None:
        """Remove the results."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _capture_all(self) -> None:
        for name in self._names:
            if self._stopping:
                return
            config, grid = name.split()
            folder = self._folder / name
            folder.mkdir(parents=True)
            options = ["--config", config, "--grid", grid, "--json", "--out", "page.md"]
            command = [sys.executable, "-m", "pi0_ttnn_ros.cli.main", "graph", *options]
            self._running = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
                preexec_fn=_lower_priority,
            )
            out, err = self._running.communicate()
            self._runs[name] = subprocess.CompletedProcess(command, self._running.returncode, out, err)
            (folder / "graph.json").write_text(out)


def _lower_priority() -> None:
    os.nice(19)
