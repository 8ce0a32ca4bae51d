"""Send requests to one TTNN backend: `run_requests.py CHECKPOINT FOLDER traced|"op by op" guided|free`.

FOLDER/0.npz and so on hold the arrays, `num_steps`, `l1_is_full` and, if there is a target, its arrays. 0.npy will hold
the actions, or 0.txt the message of a refusal. The backend is loaded for the number of steps of the first request.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pi0_ttnn_core.backend import BackendError
from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
from pi0_ttnn_core.model_inputs import model_inputs
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_core.wormhole import select_wormhole


def fill_l1(device):
    """Allocate a tensor that leaves only a few tiles of the cores' L1 free."""
    import ttnn

    view = ttnn.get_memory_view(device, ttnn.BufferType.L1)
    tiles = (view.largest_contiguous_bytes_free_per_bank // ttnn.tile_size(ttnn.bfloat16) - 8) * view.num_banks
    shape = ttnn.Shape((1, 1, 32, 32 * tiles))
    return ttnn.allocate_tensor_on_device(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, device, ttnn.L1_MEMORY_CONFIG)


def main() -> None:
    checkpoint, folder = open_checkpoint(sys.argv[1]), Path(sys.argv[2])
    files = sorted(folder.glob("*.npz"), key=lambda file: int(file.stem))
    wormhole = select_wormhole()
    # Imported here: ttnn reads the environment that the selection sets.
    from pi0_ttnn_core.tt.runtime.backend import TTNNBackend

    num_steps = int(np.load(files[0])["num_steps"])
    traced, guided = sys.argv[3] == "traced", sys.argv[4] == "guided"
    backend = TTNNBackend(checkpoint, wormhole.name, "default", num_steps, guided, traced)
    for file in files:
        arrays = dict(np.load(file))
        num_steps, l1_is_full = int(arrays.pop("num_steps")), bool(arrays.pop("l1_is_full"))
        filler = fill_l1(backend.model.device) if l1_is_full else None
        target = {name: arrays.pop(f"target_{name}") for name in ("actions", "weights") if f"target_{name}" in arrays}
        inputs, _ = model_inputs(arrays, checkpoint.config)
        try:
            actions = backend.sample_actions(inputs, num_steps, GuidanceTarget(**target) if target else None)
            np.save(file.with_suffix(".npy"), actions)
        except BackendError as error:
            file.with_suffix(".txt").write_text(str(error), encoding="utf-8")
        del filler
    backend.close()


if __name__ == "__main__":
    main()
