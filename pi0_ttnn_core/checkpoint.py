"""A checkpoint folder in the LeRobot layout -> named tensors, checked whole before one of them is read.

The folder holds `config.json`, `model.safetensors` (or shards with `model.safetensors.index.json`), and the processor
files with the statistics of states and actions (`policy_preprocessor.json`, `policy_postprocessor.json`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pi0_ttnn_core.configs import PI0, ConfigError, PI0Config, config_from_architecture
from pi0_ttnn_core.reference.model import PI0ModelTorch
from pi0_ttnn_core.transforms import Normalization

PALIGEMMA = "model.paligemma_with_expert.paligemma.model."
GEMMA_EXPERT = "model.paligemma_with_expert.gemma_expert.model."

THEIR_TOWER, OUR_TOWER = PALIGEMMA + "vision_tower.vision_model.", "prefix_embedding.vision_tower."

# LeRobot's prefix of a tensor's name -> ours. The first that fits decides.
NAME_PREFIXES = (
    (THEIR_TOWER + "embeddings.patch_embedding.", OUR_TOWER + "patch_embedding."),
    (THEIR_TOWER + "embeddings.position_embedding.", OUR_TOWER + "position_embedding."),
    (THEIR_TOWER + "encoder.layers.", OUR_TOWER + "layers."),
    (THEIR_TOWER + "post_layernorm.", OUR_TOWER + "post_layernorm."),
    (PALIGEMMA + "multi_modal_projector.linear.", "prefix_embedding.projector."),
    (PALIGEMMA + "language_model.embed_tokens.", "prefix_embedding.embed_tokens."),
    (PALIGEMMA + "language_model.", "prefix."),
    (GEMMA_EXPERT, "expert."),
    ("model.", "suffix_embedding."),
)

TIED_EMBEDDING = "model.paligemma_with_expert.paligemma.lm_head.weight"
UNUSED = (TIED_EMBEDDING, "model.paligemma_with_expert.gemma_expert.lm_head.weight")

IMAGE_FEATURE = "observation.images."
STATE_FEATURE = "observation.state"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, what is wrong and the remedy."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: a file and its name there."""

    file: Path
    name: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose tensors all have the right names and shapes. No weight is in memory yet.

    `cameras` are the image names in the order of training; `state_normalization` and `action_normalization` have the
    sizes of the robot's state and action.
    """

    folder: Path
    config: PI0Config
    cameras: tuple[str, ...]
    state_normalization: Normalization
    action_normalization: Normalization
    tensors: dict[str, StoredTensor]

    def read_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, tensor) one by one, in the stored dtype."""
        for file in sorted({stored.file for stored in self.tensors.values()}):
            with safe_open(file, framework="pt") as archive:
                for name, stored in self.tensors.items():
                    if stored.file == file:
                        yield name, archive.get_tensor(stored.name)


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """Check the whole of a checkpoint folder and return it.

    Raises:
        CheckpointError: with every missing, unknown and misshapen tensor by name, or the file that is at fault.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder: give the folder that holds config.json and model.safetensors")
    settings = _read_json(folder / "config.json")
    config = _model_config(settings, folder / "config.json")
    stored = _tensor_files(folder)
    _check_tensors(folder, stored, config)
    state, action = _feature_sizes(settings, config, folder / "config.json")
    return Checkpoint(
        folder=folder,
        config=config,
        cameras=_cameras(settings, config, folder / "config.json"),
        state_normalization=_normalization(folder, "policy_preprocessor.json", "normalizer", STATE_FEATURE, state),
        action_normalization=_normalization(folder, "policy_postprocessor.json", "unnormalizer", "action", action),
        tensors={
            _our_name(name): StoredTensor(file, name) for name, (file, _) in stored.items() if _is_used(name, stored)
        },
    )


def expected_shapes(config: PI0Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the model, by our name."""
    with torch.device("meta"):
        model = PI0ModelTorch(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def lerobot_name(name: str) -> str:
    """Return LeRobot's name of one of our tensors."""
    for theirs, ours in NAME_PREFIXES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def _our_name(name: str) -> str:
    if name == TIED_EMBEDDING:
        return "prefix_embedding.embed_tokens.weight"
    for theirs, ours in NAME_PREFIXES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _is_used(name: str, stored: dict[str, Any]) -> bool:
    if name == TIED_EMBEDDING:
        return lerobot_name("prefix_embedding.embed_tokens.weight") not in stored
    return name not in UNUSED


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: is this the folder of a LeRobot checkpoint?") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}): download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} must hold a JSON object, not {type(content).__name__}")
    return content


def _model_config(settings: dict[str, Any], file: Path) -> PI0Config:
    if settings.get("type") != "pi0":
        raise CheckpointError(f"{file}: type is {settings.get('type')!r}; only 'pi0' can be run")
    numbers = {
        ours: settings[theirs]
        for ours, theirs in (
            ("horizon", "chunk_size"),
            ("action_dim", "max_action_dim"),
            ("num_steps", "num_inference_steps"),
            ("num_tokens", "tokenizer_max_length"),
            ("min_period", "min_period"),
            ("max_period", "max_period"),
        )
        if theirs in settings
    }
    try:
        config = replace(PI0, **numbers)
        if "architecture" in settings:
            config = config_from_architecture(settings["architecture"], config)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return config


def _tensor_files(folder: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """Return file and shape of every stored tensor, by LeRobot's name."""
    index_file = folder / "model.safetensors.index.json"
    if index_file.exists():
        weight_map = _read_json(index_file).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise CheckpointError(f"{index_file}: weight_map must map tensor names to file names")
        names = sorted(set(weight_map.values()))
    else:
        names = ["model.safetensors"]
    stored: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for name in names:
        file = _inside(folder, name)
        for tensor, shape in _shapes_in(file).items():
            stored[tensor] = (file, shape)
    return stored


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise CheckpointError(f"{folder}: the file name {name!r} leads out of the checkpoint's folder; refused")
    return folder / name


def _shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    if not file.exists():
        raise CheckpointError(f"{file} is missing: the checkpoint is incomplete, download it again")
    try:
        with safe_open(file, framework="pt") as archive:
            return {name: tuple(archive.get_slice(name).get_shape()) for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged or no safetensors file ({error}): download it again") from error


def _check_tensors(folder: Path, stored: dict[str, tuple[Path, tuple[int, ...]]], config: PI0Config) -> None:
    found = {_our_name(name): shape for name, (_, shape) in stored.items() if _is_used(name, stored)}
    expected = expected_shapes(config)
    problems = [f"missing: {lerobot_name(name)} {list(expected[name])}" for name in expected if name not in found]
    problems += [f"unknown: {name}" for name in stored if _is_used(name, stored) and _our_name(name) not in expected]
    problems += [
        f"misshapen: {lerobot_name(name)} is {list(found[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        listed = "\n  ".join(problems)
        raise CheckpointError(
            f"{folder}: {len(problems)} of the tensors do not fit the model that config.json describes:\n  {listed}"
        )


def _features(settings: dict[str, Any], key: str) -> dict[str, Any]:
    features = settings.get(key)
    return features if isinstance(features, dict) else {}


def _cameras(settings: dict[str, Any], config: PI0Config, file: Path) -> tuple[str, ...]:
    features = _features(settings, "input_features")
    cameras = tuple(name.removeprefix(IMAGE_FEATURE) for name in features if name.startswith(IMAGE_FEATURE))
    if not 1 <= len(cameras) <= config.num_cameras:
        raise CheckpointError(
            f"{file}: input_features must name 1 to {config.num_cameras} cameras as {IMAGE_FEATURE}NAME, "
            f"found {list(cameras)}"
        )
    return cameras


def _feature_sizes(settings: dict[str, Any], config: PI0Config, file: Path) -> tuple[int, int]:
    """Return the sizes of the robot's state and action."""
    sizes = []
    for section, name in (("input_features", STATE_FEATURE), ("output_features", "action")):
        shape = _features(settings, section).get(name, {}).get("shape")
        if not (isinstance(shape, list) and len(shape) == 1 and 1 <= shape[0] <= config.action_dim):
            raise CheckpointError(f"{file}: {section} must give {name} a shape [1..{config.action_dim}], found {shape}")
        sizes.append(shape[0])
    return sizes[0], sizes[1]


def _normalization(folder: Path, pipeline: str, kind: str, feature: str, size: int) -> Normalization:
    """Read the statistics of `feature` from the pipeline's step `{kind}_processor`."""
    file = folder / pipeline
    steps = [step for step in _read_json(file).get("steps", []) if step.get("registry_name") == f"{kind}_processor"]
    if len(steps) != 1 or "state_file" not in steps[0]:
        raise CheckpointError(f"{file}: expected one step {kind}_processor with a state_file")
    settings = steps[0].get("config", {})
    mode = settings.get("norm_map", {}).get("STATE" if feature == STATE_FEATURE else "ACTION", "IDENTITY")
    if mode == "IDENTITY":
        return Normalization.identity(size)
    if mode != "MEAN_STD":
        raise CheckpointError(f"{file}: normalisation {mode} of {feature} is not supported; MEAN_STD and IDENTITY are")
    state_file = _inside(folder, steps[0]["state_file"])
    mean, std = (_statistic(state_file, f"{feature}.{name}", size) for name in ("mean", "std"))
    return Normalization(mean=mean, std=std, eps=float(settings.get("eps", 1e-8)))


def _statistic(file: Path, name: str, size: int) -> np.ndarray:
    shape = _shapes_in(file).get(name)
    if shape != (size,):
        raise CheckpointError(f"{file}: {name} must have shape [{size}], found {list(shape) if shape else 'none'}")
    with safe_open(file, framework="pt") as archive:
        values = archive.get_tensor(name).float().numpy()
    if not np.isfinite(values).all():
        raise CheckpointError(f"{file}: {name} has values that are not finite")
    return values
