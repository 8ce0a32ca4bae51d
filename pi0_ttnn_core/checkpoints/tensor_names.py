"""The tensors of a model: their shapes, and their names in checkpoints of LeRobot and openpi.

Both store the same names, here called upstream names; the canonical names are those of `reference/`. This module does
not import torch, so that inspecting a checkpoint is fast.
"""

from __future__ import annotations

import re

from pi0_ttnn_core.configs import GemmaConfig, PI0Config, VisionConfig

Shape = tuple[int, ...]

PALIGEMMA = "paligemma_with_expert.paligemma."
UPSTREAM_TOWER, CANONICAL_TOWER = PALIGEMMA + "model.vision_tower.vision_model.", "prefix_embedding.vision_tower."

# Start of the upstream name -> start of the canonical name. The first match decides.
NAME_STARTS = (
    (UPSTREAM_TOWER + "embeddings.patch_embedding.", CANONICAL_TOWER + "patch_embedding."),
    (UPSTREAM_TOWER + "embeddings.position_embedding.", CANONICAL_TOWER + "position_embedding."),
    (UPSTREAM_TOWER + "encoder.layers.", CANONICAL_TOWER + "layers."),
    (UPSTREAM_TOWER + "post_layernorm.", CANONICAL_TOWER + "post_layernorm."),
    (PALIGEMMA + "model.multi_modal_projector.linear.", "prefix_embedding.projector."),
    (PALIGEMMA + "model.language_model.embed_tokens.", "prefix_embedding.embed_tokens."),
    (PALIGEMMA + "model.language_model.", "prefix."),
    ("paligemma_with_expert.gemma_expert.model.", "expert."),
    ("", "suffix_embedding."),
)

# Start of the name in older versions -> start of the upstream name: LeRobot before 0.4, transformers before 4.52.
OLDER_STARTS = (
    (PALIGEMMA + "vision_tower.", PALIGEMMA + "model.vision_tower."),
    (PALIGEMMA + "multi_modal_projector.", PALIGEMMA + "model.multi_modal_projector."),
    (PALIGEMMA + "language_model.model.", PALIGEMMA + "model.language_model."),
    (PALIGEMMA + "language_model.lm_head.", PALIGEMMA + "lm_head."),
)

EMBEDDING = PALIGEMMA + "model.language_model.embed_tokens.weight"
TIED_HEAD = PALIGEMMA + "lm_head.weight"
# Not needed for actions, and dropped by some exports.
UNUSED = (TIED_HEAD, "paligemma_with_expert.gemma_expert.lm_head.weight")

# Statistics that LeRobot stored in the model's file before 0.4.
BUFFER = re.compile(r"(un)?normalize_(inputs|outputs|targets)\.buffer_")


def expected_shapes(config: PI0Config) -> dict[str, Shape]:
    """Return the shape of every tensor of the model, by canonical name."""
    width, prefix_width = config.expert.width, config.prefix.width
    return {
        **_below("prefix_embedding.vision_tower.", _vision_shapes(config.vision)),
        **_linear("prefix_embedding.projector", config.vision.width, prefix_width),
        "prefix_embedding.embed_tokens.weight": (config.vocab_size, prefix_width),
        **_below("prefix.", _gemma_shapes(config.prefix, adaptive=False)),
        **_below("expert.", _gemma_shapes(config.expert, adaptive=config.pi05)),
        **_below("suffix_embedding.", _suffix_shapes(config.action_dim, width, config.pi05)),
    }


def upstream_name(name: str) -> str:
    """Return the upstream name of a tensor, without the `model.` that LeRobot puts before it."""
    for upstream, canonical in NAME_STARTS:
        if name.startswith(canonical):
            return upstream + name.removeprefix(canonical)
    raise KeyError(name)


def canonical_name(stored: str) -> str:
    """Return the canonical name of a tensor that a LeRobot or openpi checkpoint, new or old, stores as `stored`."""
    stored = current_name(stored)
    for upstream, canonical in NAME_STARTS:
        if stored.startswith(upstream):
            return canonical + stored.removeprefix(upstream)
    raise KeyError(stored)


def current_name(stored: str) -> str:
    """Return the upstream name of a stored tensor, new or old, without LeRobot's `model.`."""
    stored = stored.removeprefix("model.")
    for older, upstream in OLDER_STARTS:
        if stored.startswith(older):
            return upstream + stored.removeprefix(older)
    return stored


def _below(path: str, shapes: dict[str, Shape]) -> dict[str, Shape]:
    return {path + name: shape for name, shape in shapes.items()}


def _linear(name: str, inputs: int, outputs: int, bias: bool = True) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {f"{name}.weight": (outputs, inputs)}
    return shapes | {f"{name}.bias": (outputs,)} if bias else shapes


def _vision_shapes(vision: VisionConfig) -> dict[str, Shape]:
    width, patch = vision.width, vision.patch_size
    shapes: dict[str, Shape] = {
        "patch_embedding.weight": (width, 3, patch, patch),
        "patch_embedding.bias": (width,),
        "position_embedding.weight": (vision.num_patches, width),
        "post_layernorm.weight": (width,),
        "post_layernorm.bias": (width,),
    }
    for layer in range(vision.depth):
        block = f"layers.{layer}."
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{block}{norm}.weight": (width,), f"{block}{norm}.bias": (width,)}
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{block}self_attn.{projection}", width, width)
        shapes |= _linear(f"{block}mlp.fc1", width, vision.mlp_dim) | _linear(f"{block}mlp.fc2", vision.mlp_dim, width)
    return shapes


def _gemma_shapes(gemma: GemmaConfig, adaptive: bool) -> dict[str, Shape]:
    width, mlp = gemma.width, gemma.mlp_dim
    queries, keys = gemma.num_heads * gemma.head_dim, gemma.num_kv_heads * gemma.head_dim
    shapes = _norm_shapes("norm", width, adaptive)
    for layer in range(gemma.depth):
        block = f"layers.{layer}."
        shapes |= _norm_shapes(f"{block}input_layernorm", width, adaptive)
        shapes |= _norm_shapes(f"{block}post_attention_layernorm", width, adaptive)
        for projection, inputs, outputs in (
            ("self_attn.q_proj", width, queries),
            ("self_attn.k_proj", width, keys),
            ("self_attn.v_proj", width, keys),
            ("self_attn.o_proj", queries, width),
            ("mlp.gate_proj", width, mlp),
            ("mlp.up_proj", width, mlp),
            ("mlp.down_proj", mlp, width),
        ):
            shapes |= _linear(block + projection, inputs, outputs, bias=False)
    return shapes


def _norm_shapes(name: str, width: int, adaptive: bool) -> dict[str, Shape]:
    return _linear(f"{name}.dense", width, 3 * width) if adaptive else {f"{name}.weight": (width,)}


def _suffix_shapes(action_dim: int, width: int, pi05: bool) -> dict[str, Shape]:
    shapes = _linear("action_in_proj", action_dim, width) | _linear("action_out_proj", width, action_dim)
    if pi05:
        return shapes | _linear("time_mlp_in", width, width) | _linear("time_mlp_out", width, width)
    return (
        shapes
        | _linear("state_proj", action_dim, width)
        | _linear("action_time_mlp_in", 2 * width, width)
        | _linear("action_time_mlp_out", width, width)
    )
