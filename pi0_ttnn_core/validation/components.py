"""The list of components, each run in the reference and on the device with the same weights and inputs.

Inputs have the scale that they have in the model, and values that bfloat16 represents exactly: then differences come
from the component alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.reference import siglip
from pi0_ttnn_core.tt.siglip import SigLIPAttentionTTNN, SigLIPBlockTTNN, SigLIPMLPTTNN
from pi0_ttnn_core.validation.comparison import Pair
from pi0_ttnn_core.validation.flow import (
    actions,
    expert_step,
    expert_step_vjp,
    guided_actions,
    output_projection,
    suffix_embedding,
)
from pi0_ttnn_core.validation.gemma import (
    GemmaCase,
    GemmaComponent,
    expert_attention,
    expert_block,
    expert_block_vjp,
    expert_case,
    expert_mlp,
    expert_rms_norm,
    expert_rope,
    prefix_attention,
    prefix_block,
    prefix_case,
    prefix_mlp,
    prefix_rms_norm,
    prefix_rope,
)
from pi0_ttnn_core.validation.harness import Harness
from pi0_ttnn_core.validation.vision import patch_embedding, prefix_embedding, projector, siglip_component, siglip_tower


@dataclass(frozen=True)
class Component:
    """One component of the model.

    Attributes:
        compare: builds the component in the reference and on the device, and runs both.
        of_vision: whether it processes camera images, not the prefix.
        all_layers: whether it needs all layers of the model.
    """

    compare: Callable[[Harness], Pair]
    of_vision: bool = False
    all_layers: bool = False


def _gemma_component(case: Callable[[Harness], GemmaCase], component: GemmaComponent) -> Component:
    return Component(lambda harness: component(case(harness)))


def shortened(config: PI0Config) -> PI0Config:
    """Return sizes of the same widths that a simulator runs in minutes: one layer, and a short prefix."""
    return replace(
        config,
        vision=replace(config.vision, depth=1, image_size=2 * config.vision.patch_size),
        prefix=replace(config.prefix, depth=1),
        expert=replace(config.expert, depth=1),
        vocab_size=min(config.vocab_size, 1024),
        max_prompt_tokens=min(config.max_prompt_tokens, 48),
    )


def components(config: PI0Config) -> dict[str, Component]:
    """Return the components of a model by name, in the order of the data flow."""
    norm = "adaptive_rms_norm" if config.pi05 else "rms_norm"
    attention = siglip_component(".self_attn", siglip.SigLIPAttentionTorch, SigLIPAttentionTTNN)
    mlp = siglip_component(".mlp", siglip.SigLIPMLPTorch, lambda _, weights: SigLIPMLPTTNN(weights))
    block = siglip_component("", siglip.SigLIPBlockTorch, SigLIPBlockTTNN, residual=True)
    return {
        "patch_embedding": Component(patch_embedding, of_vision=True),
        "siglip_attention": Component(attention, of_vision=True),
        "siglip_mlp": Component(mlp, of_vision=True),
        "siglip_block": Component(block, of_vision=True),
        "siglip_tower": Component(siglip_tower, of_vision=True, all_layers=True),
        "projector": Component(projector, of_vision=True),
        "prefix_embedding": Component(prefix_embedding),
        "prefix_rms_norm": _gemma_component(prefix_case, prefix_rms_norm),
        "prefix_rope": _gemma_component(prefix_case, prefix_rope),
        "prefix_attention": _gemma_component(prefix_case, prefix_attention),
        "prefix_mlp": _gemma_component(prefix_case, prefix_mlp),
        "prefix_block": _gemma_component(prefix_case, prefix_block),
        "suffix_embedding": Component(suffix_embedding),
        f"expert_{norm}": _gemma_component(expert_case, expert_rms_norm),
        "expert_rope": _gemma_component(expert_case, expert_rope),
        "expert_attention": _gemma_component(expert_case, expert_attention),
        "expert_mlp": _gemma_component(expert_case, expert_mlp),
        "expert_block": _gemma_component(expert_case, expert_block),
        "expert_block_vjp": _gemma_component(expert_case, expert_block_vjp),
        "expert_step": Component(expert_step),
        "expert_step_vjp": Component(expert_step_vjp),
        "output_projection": Component(output_projection),
        "actions": Component(actions, all_layers=True),
        "guided_actions": Component(guided_actions, all_layers=True),
    }
