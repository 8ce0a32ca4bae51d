"""Send requests to one TTNN backend: `run_requests.py CHECKPOINT FOLDER traced|"op by op"`.

FOLDER/0.npz and so on hold the arrays and `num_steps`; 0.npy will hold the actions, or 0.txt the refusal. The backend
is loaded for the number of steps of the first.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pi0_ttnn_core.backends import BackendError
from pi0_ttnn_core.checkpoint import open_checkpoint
from pi0_ttnn_core.model_inputs import model_inputs
from pi0_ttnn_core.wormhole import select_wormhole


def main() -> None:
    checkpoint, folder = open_checkpoint(sys.argv[1]), Path(sys.argv[2])
    files = sorted(folder.glob("*.npz"), key=lambda file: int(file.stem))
    wormhole = select_wormhole()
    # Reads the environment that the selection sets.
    from pi0_ttnn_core.tt.backend import TTNNBackend

    num_steps = int(np.load(files[0])["num_steps"])
    backend = TTNNBackend(checkpoint, wormhole.name, "default", num_steps, traced=sys.argv[3] == "traced")
    for file in files:
        arrays = dict(np.load(file))
        num_steps = int(arrays.pop("num_steps"))
        inputs, _ = model_inputs(arrays, checkpoint.config)
        try:
            np.save(file.with_suffix(".npy"), backend.sample_actions(inputs, num_steps))
        except BackendError as error:
            file.with_suffix(".txt").write_text(str(error), encoding="utf-8")
    backend.close()


if __name__ == "__main__":
    main()
