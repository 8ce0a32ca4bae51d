"""A checkpoint with random weights in LeRobot's layout, for demos, tests and benchmarks. It knows no task.

The weights are scaled so that state, cameras and prompt influence the actions as much as in a trained model: with the
usual scales, actions would depend almost only on the noise, and comparing them would prove little.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from pi0_ttnn_core.checkpoints.files import JSON_FILE
from pi0_ttnn_core.checkpoints.lerobot_layout import (
    ACTION_FEATURE,
    IMAGE_FEATURE,
    POSTPROCESSOR,
    PREPROCESSOR,
    STATE_FEATURE,
)
from pi0_ttnn_core.checkpoints.openpi_layout import CAMERAS
from pi0_ttnn_core.checkpoints.tensor_names import EMBEDDING, UNUSED, expected_shapes, upstream_name
from pi0_ttnn_core.configs import CONFIGS, PI0, PI05, PI0Config, architecture_of

if TYPE_CHECKING:
    from torch import Tensor

# ALOHA at rest, one arm: six joints in radians, the gripper from 0 (closed) to 1 (open).
REST_POSE = (0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.5)
SPREAD = (0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2)

# Scale of a weight in addition to 1 / sqrt(inputs), by the end of its name.
GAINS = {"q_proj.weight": 2.0, "v_proj.weight": 2.0, "o_proj.weight": 2.0}


def make_checkpoint(config_name: str, out: Path, seed: int, arms: int = 2) -> None:
    """Write a random checkpoint of the named config for one or two ALOHA arms into the folder `out`."""
    config = CONFIGS[config_name]
    # At full size, float32 would take 16 GB.
    write_checkpoint(config, out, seed, "bfloat16" if config in (PI0, PI05) else "float32", arms)


def write_checkpoint(config: PI0Config, out: Path, seed: int, dtype: str, arms: int = 2) -> None:
    """Write a random checkpoint with the sizes of `config` into the folder `out`; `dtype` is that of the weights."""
    out.mkdir(parents=True, exist_ok=True)
    write_weights(config, out / "model.safetensors", seed, dtype)
    _write_json(out / "config.json", lerobot_settings(config, arms))
    _write_pipelines(config, out, arms)
    byte_tokenizer().save(str(out / JSON_FILE))


def write_weights(config: PI0Config, file: Path, seed: int, dtype: str) -> None:
    """Write random weights under LeRobot's names, including the two heads. They are the same on every machine."""
    import torch
    from safetensors.torch import save_file

    target = getattr(torch, dtype)
    tensors: dict[str, Tensor] = {
        "model." + upstream_name(name): torch.from_numpy(random_weight(name, shape, seed)).to(target)
        for name, shape in expected_shapes(config).items()
    }
    prefix_head, expert_head = UNUSED
    tensors["model." + prefix_head] = tensors["model." + EMBEDDING].clone()
    tensors["model." + expert_head] = torch.zeros(config.vocab_size, config.expert.width, dtype=target)
    save_file(tensors, file, metadata={"format": "pt"})


def random_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return a random weight, float32, which depends on its canonical name, its shape and the seed."""
    noise = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape, np.float32)
    if len(shape) == 1:
        is_layer_norm_weight = name.endswith("weight") and "vision_tower" in name
        return noise * np.float32(0.1) + np.float32(1.0 if is_layer_norm_weight else 0.0)
    is_embedding = name.endswith(("position_embedding.weight", "embed_tokens.weight"))
    inputs = shape[-1] if is_embedding else float(np.prod(shape[1:]))
    gain = next((gain for end, gain in GAINS.items() if name.endswith(end)), 1.0)
    return noise * np.float32(gain * inputs**-0.5)


def lerobot_settings(config: PI0Config, arms: int) -> dict[str, Any]:
    """Return the content of LeRobot's config.json."""
    size = config.vision.image_size
    joints = arms * len(REST_POSE)
    settings: dict[str, Any] = {
        "type": "pi05" if config.pi05 else "pi0",
        "input_features": {
            **{IMAGE_FEATURE + name: {"type": "VISUAL", "shape": [3, size, size]} for name in CAMERAS},
            STATE_FEATURE: {"type": "STATE", "shape": [joints]},
        },
        "output_features": {ACTION_FEATURE: {"type": "ACTION", "shape": [joints]}},
        "normalization_mapping": _normalization_mapping(config),
        "chunk_size": config.action_horizon,
        "n_action_steps": config.action_horizon,
        "max_state_dim": config.action_dim,
        "max_action_dim": config.action_dim,
        "num_inference_steps": config.num_steps,
        "tokenizer_max_length": config.max_prompt_tokens,
        "min_period": config.min_period,
        "max_period": config.max_period,
        "image_resolution": [size, size],
    }
    if config not in (PI0, PI05):
        settings["architecture"] = architecture_of(config)
    return settings


def _normalization_mapping(config: PI0Config) -> dict[str, str]:
    mode = "QUANTILES" if config.pi05 else "MEAN_STD"
    return {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}


def _write_pipelines(config: PI0Config, out: Path, arms: int) -> None:
    from safetensors.numpy import save_file

    mean, std = np.array(arms * REST_POSE, np.float32), np.array(arms * SPREAD, np.float32)
    # Quantiles of a normal distribution.
    statistics = {"mean": mean, "std": std, "q01": mean - 2.326 * std, "q99": mean + 2.326 * std}
    for file, kind, step in ((PREPROCESSOR, "normalizer", 5), (POSTPROCESSOR, "unnormalizer", 0)):
        name = file.removesuffix(".json")
        state_file = f"{name}_step_{step}_{kind}_processor.safetensors"
        values = {
            f"{feature}.{statistic}": vector.astype(np.float32)
            for feature in (STATE_FEATURE, ACTION_FEATURE)
            for statistic, vector in statistics.items()
        }
        save_file(values, out / state_file)
        processor = {
            "registry_name": f"{kind}_processor",
            "config": {"eps": 1e-8, "norm_map": _normalization_mapping(config)},
            "state_file": state_file,
        }
        _write_json(out / file, {"name": name, "steps": [processor]})


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer of single bytes after <bos>: PaliGemma's own is not part of this package."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", "<bos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return tokenizer


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
