"""PI0 and PI0.5 at full size on a mock Wormhole n150, captured by the command: see `captures.py`."""

from __future__ import annotations

import json
from importlib.util import find_spec
from math import prod

import pytest
from captures import CAPTURES, SLOW_CAPTURES

from pi0_ttnn_core.checkpoints.tensor_names import expected_shapes
from pi0_ttnn_core.configs import CONFIGS, GemmaConfig, PI0Config

pytestmark = pytest.mark.skipif(find_spec("ttnn") is None, reason="ttnn is not installed")

MAX_DRAM = 6 * 2**30
# The goals at the default preset. The time is that of an n150's 64 cores; with fewer, it may be longer in proportion.
MAX_DEVICE_OPS = 2500
MAX_ROOFLINE_MS = 60
CORES = {"8x8": 64, "8x7": 56}


@pytest.fixture(
    scope="module", params=[*CAPTURES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_CAPTURES)]
)
def graph(request, captures) -> dict:
    config, grid = request.param.split()
    folder = captures.folder(request.param)
    printed = json.loads((folder / "graph.json").read_text())
    return {"config": CONFIGS[config], "cores": CORES[grid], "page": (folder / "page.md").read_text(), **printed}


def test_no_transfers_during_inference(graph):
    """Nothing is uploaded or read back between the inputs and the result."""
    assert graph["transfers_inside"] == 0
    assert all(stage["transfers_inside"] == 0 for stage in graph["stages"].values())


def test_fits_into_dram(graph):
    """Weights and buffers fit into the card's DRAM."""
    # PI0.5's adaptive norms are computed once, when the model is loaded.
    shapes = expected_shapes(graph["config"]).items()
    stored = {name: prod(shape) for name, shape in shapes if ".dense." not in name}
    table = stored.pop("prefix_embedding.embed_tokens.weight")
    weights = 2 * table + 1.0625 * sum(stored.values())
    assert 0.98 * weights < graph["weights_bytes"] < 1.1 * weights
    assert graph["weights_bytes"] < graph["dram_bytes"] <= MAX_DRAM


def test_fits_into_l1(graph):
    """The largest L1 allocation fits into the L1 of a core."""
    assert 0 < graph["l1_bytes"] <= graph["l1_limit_bytes"] < 1.5 * 2**20


def test_stage_flops(graph):
    """Each stage computes as many operations as the model's arithmetic asks for."""
    for stage, expected in flops(graph["config"]).items():
        # More because of the padding to whole tiles: 72 to 96 in the vision heads, 51 to 64 rows in the suffix.
        assert 0.98 * expected <= graph["stages"][stage]["flops"] <= 1.35 * expected, stage


def test_stages_sum_to_total(graph):
    """The stages' sums are those of the whole inference."""
    for label in ("device_ops", "flops", "bytes", "roofline_ms"):
        assert sum(stage[label] for stage in graph["stages"].values()) == pytest.approx(graph[label])


def test_no_stage_exceeds_the_roofline(graph):
    """No stage is modelled faster than the card's peak."""
    for stage in graph["stages"].values():
        assert stage["roofline_ms"] >= 0.999e3 * max(stage["flops"] / 262e12, stage["bytes"] / 288e9)


def test_page_matches_json(graph):
    """The page has the JSON's numbers and says that they are modelled."""
    assert "model, not a measurement" in graph["page"]
    for name, stage in [*graph["stages"].items(), ("total", graph)]:
        assert f"| {name} | {stage['device_ops']} | 0 | {stage['flops'] / 1e12:.3f} |" in graph["page"]


def test_number_of_device_ops(graph):
    """One inference has no more device ops than the limit."""
    assert graph["device_ops"] <= MAX_DEVICE_OPS


def test_modelled_latency(graph):
    """The modelled latency of one inference is below the limit."""
    assert graph["roofline_ms"] <= MAX_ROOFLINE_MS * CORES["8x8"] / graph["cores"]


def flops(config: PI0Config) -> dict[str, float]:
    """Return the FLOPs of each stage from the sizes of the model, without padding."""
    vision, images = config.vision, config.num_cameras * config.vision.num_patches
    projections = 4 * vision.width**2 + 2 * vision.width * vision.mlp_dim
    block = 2 * images * projections + 4 * images * vision.num_patches * vision.width
    patches = 2 * images * 3 * vision.patch_size**2 * vision.width
    prefix, suffix = images + config.max_prompt_tokens, config.num_state_tokens + config.action_horizon
    # The last layer of the prefix computes only keys and values.
    layers = config.prefix.depth - 1
    return {
        "vision": vision.depth * block + patches + 2 * images * vision.width * config.prefix.width,
        "prefill": layers * gemma_block(config.prefix, prefix, prefix),
        "denoise": config.num_steps * config.expert.depth * gemma_block(config.expert, suffix, prefix + suffix),
    }


def gemma_block(gemma: GemmaConfig, queries: int, keys: int) -> float:
    heads, kv_heads = gemma.num_heads * gemma.head_dim, gemma.num_kv_heads * gemma.head_dim
    projections = gemma.width * (2 * heads + 2 * kv_heads + 3 * gemma.mlp_dim)
    return 2 * queries * projections + 4 * queries * keys * heads
