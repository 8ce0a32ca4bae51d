"""A checkpoint of random weights in the LeRobot layout, for demos, tests and benches. It knows no task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor

from pi0_ttnn_core.checkpoint import IMAGE_FEATURE, STATE_FEATURE, UNUSED, expected_shapes, lerobot_name
from pi0_ttnn_core.configs import CONFIGS, PI0, PI0Config, architecture_of
from pi0_ttnn_core.tokenizer import TOKENIZER_FILE

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")

# ALOHA at rest, one arm: six joints in radians, the gripper from 0 (closed) to 1 (open).
REST_POSE = (0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.5)
SPREAD = (0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2)


def make_checkpoint(config_name: str, out: Path, seed: int) -> None:
    """Write a random checkpoint of the named config for a bimanual ALOHA robot into the folder `out`."""
    config = CONFIGS[config_name]
    # Full size, float32 would fill 16 GB.
    dtype = torch.bfloat16 if config == PI0 else torch.float32
    out.mkdir(parents=True, exist_ok=True)
    save_file(_random_tensors(config, dtype, seed), out / "model.safetensors", metadata={"format": "pt"})
    _write_json(out / "config.json", _settings(config))
    _write_statistics(out)
    _byte_tokenizer().save(str(out / TOKENIZER_FILE))


def _random_tensors(config: PI0Config, dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        lerobot_name(name): _random_tensor(name, shape, generator).to(dtype)
        for name, shape in expected_shapes(config).items()
    }
    embedding = tensors[lerobot_name("prefix_embedding.embed_tokens.weight")]
    prefix_head, expert_head = UNUSED
    tensors[prefix_head] = embedding.clone()
    tensors[expert_head] = torch.zeros(config.vocab_size, config.expert.width, dtype=dtype)
    return tensors


def _random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        is_layer_norm_weight = name.endswith("weight") and "vision_tower" in name
        return 0.1 * noise + (1.0 if is_layer_norm_weight else 0.0)
    if "embedding" in name.rsplit(".", 2)[-2] or "embed_tokens" in name:
        return noise * shape[-1] ** -0.5
    return noise * float(np.prod(shape[1:])) ** -0.5


def _settings(config: PI0Config) -> dict[str, Any]:
    size = config.vision.image_size
    joints = 2 * len(REST_POSE)
    settings: dict[str, Any] = {
        "type": "pi0",
        "input_features": {
            **{IMAGE_FEATURE + name: {"type": "VISUAL", "shape": [3, size, size]} for name in CAMERAS},
            STATE_FEATURE: {"type": "STATE", "shape": [joints]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [joints]}},
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
        "chunk_size": config.horizon,
        "n_action_steps": config.horizon,
        "max_state_dim": config.action_dim,
        "max_action_dim": config.action_dim,
        "num_inference_steps": config.num_steps,
        "tokenizer_max_length": config.num_tokens,
        "min_period": config.min_period,
        "max_period": config.max_period,
        "image_resolution": [size, size],
    }
    if config != PI0:
        settings["architecture"] = architecture_of(config)
    return settings


def _write_statistics(out: Path) -> None:
    mean, std = torch.tensor(2 * REST_POSE), torch.tensor(2 * SPREAD)
    for pipeline, kind, step in (("preprocessor", "normalizer", 5), ("postprocessor", "unnormalizer", 0)):
        state_file = f"policy_{pipeline}_step_{step}_{kind}_processor.safetensors"
        statistics = {
            f"{feature}.{name}": values.clone()
            for feature in (STATE_FEATURE, "action")
            for name, values in (("mean", mean), ("std", std))
        }
        save_file(statistics, out / state_file)
        norm_map = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
        processor = {
            "registry_name": f"{kind}_processor",
            "config": {"eps": 1e-8, "norm_map": norm_map},
            "state_file": state_file,
        }
        _write_json(out / f"policy_{pipeline}.json", {"name": f"policy_{pipeline}", "steps": [processor]})


def _byte_tokenizer() -> Tokenizer:
    """Return a tokenizer of single bytes after a <bos>: PaliGemma's own is not ours to ship."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", "<bos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return tokenizer


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
