"""Capture a model that raises while it is captured, then one that does not; print what traces hold as JSON.

A separate program, because TTNN chooses its device when it is imported.
"""

from __future__ import annotations

import json
import sys

from pi0_ttnn_core.wormhole import select_wormhole

select_wormhole()

import ttnn

from pi0_ttnn_core.configs import CONFIGS
from pi0_ttnn_core.model_inputs import random_inputs
from pi0_ttnn_core.tt.common import Tensor
from pi0_ttnn_core.tt.model import DeviceInputs
from pi0_ttnn_core.tt.runtime.device import open_device
from pi0_ttnn_core.tt.runtime.inputs import host_inputs
from pi0_ttnn_core.tt.runtime.session import Session


class Model:
    """A model of one op that raises in a call that is named by its number, and has no cache."""

    def __init__(self, device: ttnn.MeshDevice, raises_in_call: int = 0) -> None:
        self.device = device
        self._calls_left = raises_in_call

    def allocate_cache(self, batch: int) -> None:
        """A model of one op needs none."""

    def sample_actions(self, inputs: DeviceInputs, cache: None) -> Tensor:
        """Return the state, doubled."""
        result = ttnn.add(inputs.state, inputs.state)
        self._calls_left -= 1
        if self._calls_left == 0:
            raise RuntimeError("injected")
        return result


def trace_memory(device: ttnn.MeshDevice) -> int:
    """Return how many bytes traces hold in each bank."""
    return ttnn.get_memory_view(device, ttnn.BufferType.TRACE).total_bytes_allocated_per_bank


def main() -> None:
    config = CONFIGS["tiny"]
    device = open_device(config, config.num_steps)
    inputs = host_inputs(random_inputs(config, 1), config)
    memory = [trace_memory(device)]
    try:
        Session(Model(device, raises_in_call=2), inputs, traced=True)
    except RuntimeError as error:
        raised = str(error)
    memory.append(trace_memory(device))
    session = Session(Model(device), inputs, traced=True)
    memory.append(trace_memory(device))
    doubled = session.run().flatten()[: inputs.state.numel()].equal((2 * inputs.state.bfloat16()).flatten())
    session.close()
    memory.append(trace_memory(device))
    ttnn.close_device(device)
    print(json.dumps({"raised": raised, "memory": memory, "doubled": doubled}), file=sys.stderr)


if __name__ == "__main__":
    main()
