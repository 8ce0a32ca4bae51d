"""Capture the graph of one inference on a mock Wormhole: without weights, without a card, without computing.

Call `select_mock_wormhole` before importing this module: TTNN chooses its device when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import ttnn

from pi0_ttnn_core.checkpoints.tensor_names import expected_shapes
from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.model_inputs import random_inputs
from pi0_ttnn_core.precision import PRESETS
from pi0_ttnn_core.profiling.graph import STAGE_MARK, Node
from pi0_ttnn_core.rtc import unguided_target
from pi0_ttnn_core.tt.model import PI0ModelTTNN
from pi0_ttnn_core.tt.runtime.device import open_device
from pi0_ttnn_core.tt.runtime.inputs import host_inputs
from pi0_ttnn_core.tt.runtime.session import device_inputs
from pi0_ttnn_core.tt.weights.conversion import WeightSource


@dataclass(frozen=True)
class Capture:
    """One captured inference.

    Attributes:
        nodes: nodes of TTNN's graph.
        resident: bytes in DRAM before the inference: weights, inputs and KV cache.
        l1: bytes of one core's L1 that are free for tensors and circular buffers of the inference.
    """

    nodes: list[Node]
    resident: int
    l1: int


def capture_inference(config: PI0Config, precision: str, guided: bool = False) -> Capture:
    """Capture `PI0ModelTTNN.sample_actions` with all camera slots.

    Args:
        config: sizes of the model.
        precision: one of PRECISIONS.
        guided: whether the inference is guided.

    Raises:
        RuntimeError: TTNN refuses the shapes, the program or the circular buffers of an op.
    """
    device = open_device(config, config.num_steps, guided)
    try:
        model = model_without_weights(config, precision, device)
        target = unguided_target(1, config.action_horizon, config.action_dim) if guided else None
        inputs = device_inputs(host_inputs(random_inputs(config, config.num_cameras), config, target), device)
        cache = model.allocate_cache(batch=1)
        # Run once without capture, which allocates tensors in L1 and fails if they do not fit; a capture does not.
        model.sample_actions(inputs, cache)
        _mark(model.prefix_embedding, "embed_images", "vision")
        _mark(model, "encode_prefix", "prefill")
        dram, l1 = (ttnn.get_memory_view(device, kind) for kind in (ttnn.BufferType.DRAM, ttnn.BufferType.L1))
        resident = dram.total_bytes_allocated_per_bank * dram.num_banks
        l1_free = l1.total_bytes_free_per_bank
        nodes = capture(lambda: model.sample_actions(inputs, cache))
        return Capture(nodes, resident, l1_free)
    finally:
        ttnn.close_device(device)


def capture(run: Callable[[], Any]) -> list[Node]:
    """Return the nodes of the graph of the ops in `run`, which are not dispatched."""
    ttnn.graph.begin_graph_capture(ttnn.graph.RunMode.NO_DISPATCH)
    try:
        run()
    finally:
        nodes = ttnn.graph.end_graph_capture()
    return nodes


def model_without_weights(config: PI0Config, precision: str, device: ttnn.MeshDevice) -> PI0ModelTTNN:
    """Return the model with uninitialised weights."""
    shapes = expected_shapes(config)
    with torch.device("meta"):
        source = WeightSource(lambda name: torch.empty(shapes[name]), device)
        return PI0ModelTTNN(config, source, PRESETS[precision], config.num_steps)


def _mark(part: Any, method: str, stage: str) -> None:
    """Make calls of a method appear in the graph as a stage."""
    unmarked = getattr(part, method)

    def marked(*arguments: Any) -> Any:
        ttnn.graph.track_function_start(STAGE_MARK + stage)
        try:
            return unmarked(*arguments)
        finally:
            ttnn.graph.track_function_end()

    setattr(part, method, marked)
