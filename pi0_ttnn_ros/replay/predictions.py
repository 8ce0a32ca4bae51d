"""The predictions of a replay on disk, written one by one, so that an interrupted replay resumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ttnn_ros.replay.episode import Prediction


class ReplayError(RuntimeError):
    """A replay cannot be done; the text says why, and the remedy."""


class Predictions:
    """A folder of predictions: records of fixed size in `predictions.bin`, and what decides them in `run.json`."""

    def __init__(self, folder: Path, run: dict[str, Any], horizon: int, joints: int, with_reference: bool) -> None:
        """Open or create the predictions in `folder`. `run` is all that decides what is predicted, as JSON.

        Raises:
            ReplayError: the folder holds the predictions of another run.
        """
        actions = ("f4", (horizon, joints))
        fields: list[Any] = [("stamp_ns", "i8"), ("state", "f4", (joints,)), ("actions", *actions)]
        fields += [("inference_time", "f8"), ("latency", "f8")]
        self._record = np.dtype(fields + ([("reference", *actions)] if with_reference else []))
        folder.mkdir(parents=True, exist_ok=True)
        self._check_run(folder / "run.json", run)
        self._file = (folder / "predictions.bin").open("a+b")
        # An incomplete last record is dropped, and its prediction repeated.
        self._file.truncate(self._file.tell() // self._record.itemsize * self._record.itemsize)

    def add(self, prediction: Prediction) -> None:
        """Write a prediction to the disk."""
        record = np.zeros((), self._record)
        for name in self._record.names or ():
            record[name] = getattr(prediction, name)
        self._file.write(record.tobytes())
        self._file.flush()

    def read(self) -> Sequence[Prediction]:
        """Return the predictions so far, in the order they were added."""
        if not self._file.tell():
            return []
        records = np.memmap(self._file, self._record, "r")
        return [Prediction(**{name: _plain(record[name]) for name in self._record.names or ()}) for record in records]

    def __enter__(self) -> Predictions:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _check_run(self, file: Path, run: dict[str, Any]) -> None:
        if file.exists():
            other = json.loads(file.read_text(encoding="utf-8"))
            differing = sorted(name for name in {*run, *other} if run.get(name) != other.get(name))
            if differing:
                raise ReplayError(
                    f"{file.parent} holds the predictions of another run, with another {', '.join(differing)}: choose "
                    f"another --out, or remove it"
                )
        else:
            file.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return value if isinstance(value, np.ndarray) and value.ndim else value.item()
