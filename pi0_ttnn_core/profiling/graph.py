"""Read the captured graph of one inference: the device's programs, their cores and their tensors.

TTNN captures a list of nodes. A function that starts a program on the device has a program factory. Between its start
and its end are its inputs, the outputs that it allocates, and its buffers in the cores' L1, with their cores.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Node = dict[str, Any]
Core = tuple[int, int]

STAGES = ("vision", "prefill", "denoise")
# Start of the name of a stage in the graph. Whatever is in no marked stage is denoising.
STAGE_MARK = "stage "
DRAM_BANKS = 12
BUFFERS = ("circular_buffer_allocate", "dataflow_buffer_allocate", "scratchpad_allocate")
# Functions that copy between host and device. ttnn.zeros, full and arange are copies from the host too.
TRANSFERS = ("Tensor::to_device", "Tensor::cpu", "tt::tt_metal::copy_to_device", "tt::tt_metal::copy_to_host")


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of an op.

    Attributes:
        shape: its shape; empty for outputs.
        size: bytes, of whole tiles.
        in_dram: whether it is in DRAM, not in L1.
        buffer: number of its memory: two tensors may share it.
    """

    shape: tuple[int, ...]
    size: int
    in_dram: bool
    buffer: int

    @property
    def dram_size(self) -> int:
        """Bytes in DRAM."""
        return self.size if self.in_dram else 0


@dataclass
class DeviceOp:
    """One program on the device.

    Attributes:
        name: name of the device operation.
        stage: one of STAGES.
        attributes: attributes of the operation, as TTNN prints them.
        inputs: its inputs.
        outputs: the outputs that it allocates. If there are none, it writes into its last input.
        buffers: bytes of its own buffers in the L1 of each core.
        tensors_in_l1: most bytes that tensors of the inference occupy in the L1 of one core while it runs.
    """

    name: str
    stage: str
    attributes: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo] = field(default_factory=list)
    buffers: Counter[Core] = field(default_factory=Counter)
    tensors_in_l1: int = 0

    @property
    def l1(self) -> int:
        """Bytes of L1 used on the fullest core."""
        return self.tensors_in_l1 + max(self.buffers.values(), default=0)

    @property
    def grid(self) -> tuple[int, int]:
        """Numbers of columns and rows of the cores that have buffers."""
        return len({x for x, _ in self.buffers}), len({y for _, y in self.buffers})

    @property
    def fidelity(self) -> str:
        """Math fidelity, or an empty string if the attributes do not contain it."""
        found = re.search(r"math_fidelity=(\w+)", self.attributes)
        return found.group(1) if found else ""


@dataclass
class Graph:
    """The device's programs of one inference.

    Attributes:
        ops: programs in the order in which they run.
        transfers: stage of each copy between host and device.
        activations: peak bytes of DRAM allocated during the inference.
    """

    ops: list[DeviceOp]
    transfers: list[str]
    activations: int


def read_graph(nodes: Iterable[Node]) -> Graph:
    """Return the graph of TTNN's captured nodes."""
    return _Reader(list(nodes)).read()


class _Reader:
    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.tensors = {node["counter"]: node["params"] for node in nodes if node["node_type"] == "tensor"}
        self.buffers: dict[int, Node] = {}
        for node in nodes:
            if node["node_type"] == "buffer":
                self.buffers.update(dict.fromkeys(node["connections"], node))
        self.graph = Graph([], [], 0)
        self.functions: list[str] = []
        self.running: list[DeviceOp] = []
        self.live = {"DRAM": 0, "L1": 0}

    def read(self) -> Graph:
        for node in self.nodes:
            kind = node["node_type"]
            if kind == "function_start":
                self._start(node)
            elif kind == "function_end":
                self._end()
            elif kind == "buffer_allocate":
                self._allocate(node)
            elif kind == "buffer_deallocate":
                self.live[_memory(node["params"])] -= _device_bytes(node["params"])
            elif kind in BUFFERS and self.running:
                self._add_buffer(node["params"])
        return self.graph

    @property
    def stage(self) -> str:
        marks = [name for name in self.functions if name.startswith(STAGE_MARK)]
        return marks[-1].removeprefix(STAGE_MARK) if marks else STAGES[-1]

    def _start(self, node: Node) -> None:
        name = node["params"]["name"]
        if name in TRANSFERS and not any(function in TRANSFERS for function in self.functions):
            self.graph.transfers.append(self.stage)
        if "program_factory_type" in node["params"]:
            inputs = [self._tensor(counter) for counter in node["input_tensors"]]
            op = DeviceOp(name, self.stage, node["arguments"][0], inputs, tensors_in_l1=self.live["L1"])
            self.graph.ops.append(op)
            self.running.append(op)
        self.functions.append(name)

    def _end(self) -> None:
        if self.running and self.running[-1].name == self.functions[-1]:
            self.running.pop()
        self.functions.pop()

    def _allocate(self, node: Node) -> None:
        buffer = node["params"]
        self.live[_memory(buffer)] += _device_bytes(buffer)
        self.graph.activations = max(self.graph.activations, self.live["DRAM"])
        if self.running:
            self.running[-1].outputs.append(TensorInfo((), buffer["size"], _is_dram(buffer), *node["connections"]))
            self.running[-1].tensors_in_l1 = max(self.running[-1].tensors_in_l1, self.live["L1"])

    def _add_buffer(self, buffer: Node) -> None:
        borrowed = "1" in (buffer.get("globally_allocated"), buffer.get("borrows_memory"))
        for core in cores(buffer["core_range_set"]):
            self.running[-1].buffers[core] += 0 if borrowed else buffer["size"]

    def _tensor(self, counter: int) -> TensorInfo:
        # A reshaped tensor is a view: it has no buffer of its own in the graph.
        tensor = self.tensors[counter]
        buffer = self.buffers.get(counter, {"counter": counter, "params": tensor})
        shape = tuple(int(size) for size in re.findall(r"\d+", tensor["shape"]))
        return TensorInfo(shape, int(buffer["params"]["size"]), _is_dram(buffer["params"]), buffer["counter"])


@cache
def cores(ranges: str) -> frozenset[Core]:
    """Return the cores of a set of ranges, which TTNN prints as {[0-0 - 7-1], [0-2 - 1-2]}."""
    corners = [map(int, found) for found in re.findall(r"\[(\d+)-(\d+) - (\d+)-(\d+)\]", ranges)]
    return frozenset((x, y) for x0, y0, x1, y1 in corners for x in range(x0, x1 + 1) for y in range(y0, y1 + 1))


def _is_dram(buffer: Node) -> bool:
    # ttnn.BufferType.DRAM.
    return buffer["buffer_type"] == 0


def _memory(buffer: Node) -> str:
    return "DRAM" if _is_dram(buffer) else "L1"


def _device_bytes(buffer: Node) -> int:
    """Return the buffer's bytes in all DRAM banks, or in one core's L1."""
    return buffer["max_size_per_bank"] * (DRAM_BANKS if _is_dram(buffer) else 1)
