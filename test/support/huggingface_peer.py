"""Hugging Face's PaliGemma and Gemma with the weights of one of our checkpoints: an independent truth."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SiglipVisionConfig,
)

from pi0_ttnn_core import configs


def huggingface_models(
    folder: Path, config: configs.PI0Config
) -> tuple[PaliGemmaForConditionalGeneration, GemmaForCausalLM]:
    """Return (PaliGemma, action expert), float32, with the tensors of `folder` loaded by their own names."""
    tensors = load_file(folder / "model.safetensors")
    vision, width = config.vision, config.prefix.width
    paligemma = PaliGemmaForConditionalGeneration(
        PaliGemmaConfig(
            vision_config=SiglipVisionConfig(
                hidden_size=vision.width,
                intermediate_size=vision.mlp_dim,
                num_hidden_layers=vision.depth,
                num_attention_heads=vision.num_heads,
                image_size=vision.image_size,
                patch_size=vision.patch_size,
                hidden_act="gelu_pytorch_tanh",
                vision_use_head=False,
            ),
            text_config=_gemma_config(config.prefix, config.vocab_size),
            projection_dim=width,
            hidden_size=width,
            image_token_index=config.vocab_size - 1,
        )
    ).eval()
    expert = GemmaForCausalLM(_gemma_config(config.expert, config.vocab_size)).eval()
    _load(paligemma, tensors, "model.paligemma_with_expert.paligemma.")
    _load(expert, tensors, "model.paligemma_with_expert.gemma_expert.")
    return paligemma, expert


def _gemma_config(sizes: configs.GemmaConfig, vocab_size: int) -> GemmaConfig:
    return GemmaConfig(
        vocab_size=vocab_size,
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp_dim,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.num_heads,
        num_key_value_heads=sizes.num_kv_heads,
        head_dim=sizes.head_dim,
        hidden_activation="gelu_pytorch_tanh",
        attn_implementation="eager",
    )


def _load(module: torch.nn.Module, tensors: dict[str, torch.Tensor], prefix: str) -> None:
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    missing, unexpected = module.load_state_dict(own, strict=False)
    assert not unexpected, unexpected
    # The expert is fed embeddings: its own token embedding is in no checkpoint.
    assert set(missing) <= {"model.embed_tokens.weight"}, missing
