"""Run a tiny model on a mock Wormhole a thousand times; write its torch calls and memory use as JSON.

This is a separate program because TTNN chooses its device when it is imported. A mock has no events, so ops are
dispatched one by one.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from pi0_ttnn_core.wormhole import select_mock_wormhole

folder = tempfile.TemporaryDirectory()
select_mock_wormhole("8x8", Path(folder.name))

import torch
import ttnn
from torch.overrides import TorchFunctionMode

from pi0_ttnn_core.configs import CONFIGS
from pi0_ttnn_core.model_inputs import random_inputs
from pi0_ttnn_core.profiling.capture import model_without_weights
from pi0_ttnn_core.tt.runtime.device import open_device
from pi0_ttnn_core.tt.runtime.inputs import host_inputs
from pi0_ttnn_core.tt.runtime.session import Session, device_inputs

WARM_UP, REPLAYS = 20, 1000


class TorchCalls(TorchFunctionMode):
    """Records every torch function that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def memory(device) -> dict[str, int]:
    views = {kind: ttnn.get_memory_view(device, getattr(ttnn.BufferType, kind)) for kind in ("DRAM", "L1")}
    allocated = {kind: view.total_bytes_allocated_per_bank for kind, view in views.items()}
    return {**allocated, "host": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


config = CONFIGS[sys.argv[1]]
device = open_device(config, config.num_steps)
model = model_without_weights(config, "default", device)
inputs = host_inputs(random_inputs(config, config.num_cameras), config)
uploaded, cache = device_inputs(inputs, device), model.allocate_cache(batch=1)
with TorchCalls() as calls:
    # Check that calls are recorded at all.
    torch.zeros(1).add(1)
    seen = len(calls.names)
    model.sample_actions(uploaded, cache)
del uploaded, cache
session = Session(model, inputs, traced=False)
before: dict[str, int] = {}
for replay in range(REPLAYS):
    if replay == WARM_UP:
        before = memory(device)
    session.upload(replace(inputs, noise=inputs.noise + replay))
    session.run()
result = {"torch_calls_seen": seen, "torch_calls": calls.names[seen:], "before": before, "after": memory(device)}
Path(sys.argv[2]).write_text(json.dumps(result))
session.close()
ttnn.close_device(device)
