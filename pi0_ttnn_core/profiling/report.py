"""The cost of a captured inference, stage by stage: as numbers and as a page of Markdown."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass

from pi0_ttnn_core.profiling.graph import STAGES, DeviceOp, Graph
from pi0_ttnn_core.profiling.roofline import busy_cores, compute_time, dram_bytes, flops, roofline

# Number of kinds of op that the page lists for each stage.
LISTED = 15


@dataclass(frozen=True)
class StageCost:
    """Cost of one stage, or of all stages.

    Attributes:
        device_ops: number of programs that the device runs.
        transfers_inside: number of copies between host and device.
        flops: FLOPs of matrix products and attention, in whole tiles.
        bytes: bytes read from and written to DRAM.
        roofline_ms: modelled time, see `roofline`, ms.
    """

    device_ops: int
    transfers_inside: int
    flops: int
    bytes: int
    roofline_ms: float


@dataclass(frozen=True)
class GraphCost(StageCost):
    """Cost of one inference.

    Attributes:
        dram_bytes: peak bytes allocated in DRAM: weights, inputs, KV cache and activations.
        weights_bytes: bytes of these allocated before the inference: weights, inputs and KV cache.
        l1_bytes: peak bytes of tensors and circular buffers in the L1 of one core.
        l1_limit_bytes: bytes that are free for them there.
        stages: cost of each stage.
    """

    dram_bytes: int
    weights_bytes: int
    l1_bytes: int
    l1_limit_bytes: int
    stages: dict[str, StageCost]


def cost(graph: Graph, resident: int, l1: int) -> GraphCost:
    """Return the cost of a graph.

    Args:
        graph: the graph.
        resident: bytes in DRAM before the inference.
        l1: bytes of one core's L1 that are free for the inference.
    """
    stages = {stage: _stage_cost(graph, (stage,)) for stage in STAGES}
    return GraphCost(
        **asdict(_stage_cost(graph, STAGES)),
        dram_bytes=resident + graph.activations,
        weights_bytes=resident,
        l1_bytes=max((op.l1 for op in graph.ops), default=0),
        l1_limit_bytes=l1,
        stages=stages,
    )


def _stage_cost(graph: Graph, stages: tuple[str, ...]) -> StageCost:
    ops = [op for op in graph.ops if op.stage in stages]
    return StageCost(
        device_ops=len(ops),
        transfers_inside=sum(stage in stages for stage in graph.transfers),
        flops=sum(map(flops, ops)),
        bytes=sum(map(dram_bytes, ops)),
        roofline_ms=1e3 * sum(map(roofline, ops)),
    )


def page(command: str, graph: Graph, total: GraphCost) -> str:
    """Return a page of Markdown about the inference that `command` captured."""
    return "\n".join([*_summary(command, total), *(line for stage in STAGES for line in _stage_lines(graph, stage))])


def _summary(command: str, total: GraphCost) -> list[str]:
    rows = [*total.stages.items(), ("total", total)]
    return [
        "# What one inference does on a Wormhole n150",
        "",
        f"Written by `{command}`, which captures it on a mock card: nothing here is measured.",
        "The roofline is a **model, not a measurement**: each op at the larger of its computing time and its DRAM",
        "time, at the peaks of the card for its math fidelity and for the cores that have work. Launches, latencies",
        "and imperfect kernels come on top.",
        "",
        "| stage | device ops | transfers inside | TFLOP | DRAM traffic, GB | roofline (model), ms |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {part.device_ops} | {part.transfers_inside} | {part.flops / 1e12:.3f} | "
            f"{part.bytes / 1e9:.3f} | {part.roofline_ms:.2f} |"
            for name, part in rows
        ),
        "",
        f"DRAM allocated: {total.dram_bytes / 2**30:.2f} GiB, of which weights and inputs "
        f"{total.weights_bytes / 2**30:.2f} GiB. L1 of the fullest core: {total.l1_bytes / 2**10:.0f} of "
        f"{total.l1_limit_bytes / 2**10:.0f} KiB.",
        "",
    ]


def _stage_lines(graph: Graph, stage: str) -> list[str]:
    ops = [op for op in graph.ops if op.stage == stage]
    kinds: dict[tuple[str, ...], list[DeviceOp]] = defaultdict(list)
    for op in ops:
        kinds[_kind(op)].append(op)
    costly = sorted(kinds.items(), key=lambda kind: -sum(map(roofline, kind[1])))[:LISTED]
    histogram = Counter(_short(op.name) for op in ops).most_common()
    return [
        f"## {stage.capitalize()}",
        "",
        "Device ops: "
        + ", ".join(f"{count} {name}" for name, count in histogram)
        + f". The {len(costly)} costliest kinds:",
        "",
        "| op | inputs | fidelity | busy cores | times | GFLOP | DRAM, MB | computing, ms | roofline (model), ms |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(kind, members) for kind, members in costly),
        "",
    ]


def _kind(op: DeviceOp) -> tuple[str, ...]:
    shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in op.inputs[:2])
    return _short(op.name), shapes, op.fidelity, str(busy_cores(op))


def _short(name: str) -> str:
    return name.removesuffix("DeviceOperation").removesuffix("Operation")


def _row(kind: tuple[str, ...], ops: list[DeviceOp]) -> str:
    name, shapes, fidelity, cores = kind
    return (
        f"| {name} | {shapes} | {fidelity} | {cores} | {len(ops)} | {sum(map(flops, ops)) / 1e9:.1f} | "
        f"{sum(map(dram_bytes, ops)) / 1e6:.1f} | {1e3 * sum(map(compute_time, ops)):.2f} | "
        f"{1e3 * sum(map(roofline, ops)):.2f} |"
    )
