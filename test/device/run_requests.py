"""Send requests to one TTNN backend: `run_requests.py CHECKPOINT FOLDER COUNT`.

FOLDER/0.npz and so on hold the arrays and `num_steps`; 0.npy will hold the actions, or 0.txt the refusal.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pi0_ttnn_core.backends import BackendError, load_backend
from pi0_ttnn_core.checkpoint import open_checkpoint
from pi0_ttnn_core.model_inputs import model_inputs


def main() -> None:
    folder = Path(sys.argv[2])
    checkpoint = open_checkpoint(sys.argv[1])
    backend = load_backend("ttnn", checkpoint)
    for number in range(int(sys.argv[3])):
        arrays = dict(np.load(folder / f"{number}.npz"))
        num_steps = int(arrays.pop("num_steps"))
        inputs, _ = model_inputs(arrays, checkpoint.config)
        try:
            np.save(folder / f"{number}.npy", backend.sample_actions(inputs, num_steps))
        except BackendError as error:
            (folder / f"{number}.txt").write_text(str(error), encoding="utf-8")
    backend.close()


if __name__ == "__main__":
    main()
