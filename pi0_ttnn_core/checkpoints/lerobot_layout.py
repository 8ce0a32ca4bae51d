"""The metadata of a LeRobot checkpoint: config.json and the processor pipelines.

Since LeRobot 0.4 the statistics are stored in files of the pipelines (policy_preprocessor.json and
policy_postprocessor.json); before, they were buffers in the model's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ttnn_core.checkpoints.files import CheckpointError, StoredTensor, file_in, read_json, read_vector, tensors_in
from pi0_ttnn_core.checkpoints.metadata import CheckpointMetadata
from pi0_ttnn_core.checkpoints.statistics import KINDS, Statistics
from pi0_ttnn_core.configs import PI0, PI05, ConfigError, PI0Config, config_from_architecture

TYPES = {"pi0": PI0, "pi05": PI05}
IMAGE_FEATURE = "observation.images."
EMPTY_CAMERA = "empty_camera_"
STATE_FEATURE = "observation.state"
ACTION_FEATURE = "action"

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
# Processor steps that the policy implements, by registry name. With any other, results would differ from LeRobot's.
KNOWN_STEPS = {
    "rename_observations_processor",
    "to_batch_processor",
    "pi0_new_line_processor",
    "pi05_prepare_state_tokenizer_processor_step",
    "tokenizer_processor",
    "device_processor",
    "normalizer_processor",
    "unnormalizer_processor",
    "relative_actions_processor",
    "absolute_actions_processor",
}


def read_lerobot_metadata(
    folder: Path, settings: dict[str, Any], stored: Mapping[str, StoredTensor]
) -> CheckpointMetadata:
    """Return the metadata from `settings`, the content of config.json, and from the files beside it."""
    file = folder / "config.json"
    config = _model_config(settings, file)
    cameras = _cameras(settings, file)
    state_size = _feature_size(settings, "input_features", STATE_FEATURE, config, file)
    action_size = _feature_size(settings, "output_features", ACTION_FEATURE, config, file)
    if (folder / PREPROCESSOR).exists() or not any("normalize_" in name for name in stored):
        steps = _steps(folder / PREPROCESSOR) | _steps(folder / POSTPROCESSOR)
        state = _pipeline_statistics(folder, steps, "normalizer_processor", STATE_FEATURE, "STATE", state_size)
        action = _pipeline_statistics(folder, steps, "unnormalizer_processor", ACTION_FEATURE, "ACTION", action_size)
        relative = _relative_joints(steps, action_size)
    else:
        mapping = settings.get("normalization_mapping", {})
        state = _buffer_statistics(stored, "normalize_inputs", STATE_FEATURE, mapping.get("STATE"), state_size, file)
        action = _buffer_statistics(
            stored, "unnormalize_outputs", ACTION_FEATURE, mapping.get("ACTION"), action_size, file
        )
        relative = None
    return CheckpointMetadata(
        layout="lerobot",
        config=replace(config, num_cameras=max(config.num_cameras, len(cameras))),
        cameras=cameras,
        state_size=state_size,
        action_size=action_size,
        state_statistics=state,
        action_statistics=action,
        relative_joints=relative,
    )


def _model_config(settings: dict[str, Any], file: Path) -> PI0Config:
    numbers = {
        name: settings[upstream]
        for name, upstream in (
            ("action_horizon", "chunk_size"),
            ("action_dim", "max_action_dim"),
            ("num_steps", "num_inference_steps"),
            ("max_prompt_tokens", "tokenizer_max_length"),
            ("min_period", "min_period"),
            ("max_period", "max_period"),
        )
        if upstream in settings
    }
    try:
        config = replace(TYPES[settings["type"]], **numbers)
        if "architecture" in settings:
            config = config_from_architecture(settings["architecture"], config)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return config


def _features(settings: dict[str, Any], section: str) -> dict[str, Any]:
    features = settings.get(section)
    return features if isinstance(features, dict) else {}


def _cameras(settings: dict[str, Any], file: Path) -> tuple[str, ...]:
    images = [name for name in _features(settings, "input_features") if name.startswith(IMAGE_FEATURE)]
    names = [name.removeprefix(IMAGE_FEATURE) for name in images]
    cameras = tuple(name for name in names if not name.startswith(EMPTY_CAMERA))
    if not cameras:
        raise CheckpointError(f"{file}: input_features must name at least one camera as {IMAGE_FEATURE}NAME")
    return cameras


def _feature_size(settings: dict[str, Any], section: str, name: str, config: PI0Config, file: Path) -> int:
    shape = _features(settings, section).get(name, {}).get("shape")
    if not (isinstance(shape, list) and len(shape) == 1 and 1 <= shape[0] <= config.action_dim):
        raise CheckpointError(f"{file}: {section} must give {name} a shape [1..{config.action_dim}], found {shape}")
    return int(shape[0])


def _steps(file: Path) -> dict[str, dict[str, Any]]:
    """Return the steps of a pipeline by their registry names."""
    steps = read_json(file).get("steps", [])
    named = {str(step.get("registry_name") or step.get("class")): step for step in steps}
    unknown = sorted(set(named) - KNOWN_STEPS)
    if unknown:
        raise CheckpointError(
            f"{file}: steps {unknown} are not known here, and without them the robot would move differently than with "
            "LeRobot: remove them from the pipeline, or run this checkpoint with LeRobot"
        )
    return {name: step | {"file": file} for name, step in named.items()}


def _pipeline_statistics(
    folder: Path, steps: dict[str, dict[str, Any]], step_name: str, feature: str, feature_type: str, size: int
) -> Statistics:
    pipeline = folder / (PREPROCESSOR if step_name == "normalizer_processor" else POSTPROCESSOR)
    if step_name not in steps:
        raise CheckpointError(f"{pipeline}: expected a step {step_name}")
    settings = steps[step_name].get("config", {})
    if settings.get("norm_map", {}).get("VISUAL", "IDENTITY") != "IDENTITY":
        raise CheckpointError(f"{pipeline}: images are normalised by statistics; PI0's are only mapped to [-1, 1]")
    kind = _kind(settings.get("norm_map", {}).get(feature_type), feature, pipeline)
    if kind == "identity":
        return Statistics(kind, {})
    names = [f"{feature}.{statistic}" for statistic in KINDS[kind]]
    state_file = steps[step_name].get("state_file")
    tensors = tensors_in(file_in(folder, state_file)) if state_file else {}
    if not any(name in tensors for name in names):
        return Statistics(kind, {}, missing=_no_statistics(pipeline, feature, kind))
    values = {
        statistic: _statistic(tensors.get(name), pipeline, name, size)
        for statistic, name in zip(KINDS[kind], names, strict=True)
    }
    return Statistics(kind, values, float(settings.get("eps", 1e-8)))


def _buffer_statistics(
    stored: Mapping[str, StoredTensor], module: str, feature: str, mode: str | None, size: int, file: Path
) -> Statistics:
    kind = _kind(mode, feature, file)
    if kind == "identity":
        return Statistics(kind, {})
    names = {statistic: f"{module}.buffer_{feature.replace('.', '_')}.{statistic}" for statistic in KINDS[kind]}
    if not any(name in stored for name in names.values()):
        return Statistics(kind, {}, missing=_no_statistics(file, feature, kind))
    return Statistics(
        kind,
        {statistic: _statistic(stored.get(name), file, name, size) for statistic, name in names.items()},
    )


def _kind(mode: str | None, feature: str, file: Path) -> str:
    kind = (mode or "IDENTITY").lower()
    if kind != "identity" and kind not in KINDS:
        raise CheckpointError(f"{file}: normalisation {mode} of {feature} is not known; known are {list(KINDS)}")
    return kind


def _no_statistics(file: Path, feature: str, kind: str) -> str:
    return (
        f"{file} requires {kind} normalisation of {feature} but holds no such statistics: this is a base model, use a "
        "checkpoint that was fine-tuned on data of your robot"
    )


def _statistic(stored: StoredTensor | None, file: Path, name: str, size: int) -> np.ndarray:
    if stored is None or stored.shape != (size,):
        found = "none" if stored is None else list(stored.shape)
        raise CheckpointError(f"{file}: {name} must have shape [{size}], found {found}")
    values = read_vector(stored)
    if not np.isfinite(values).all():
        raise CheckpointError(f"{stored.file}: {name} has values that are not finite")
    return values


def _relative_joints(steps: dict[str, dict[str, Any]], size: int) -> tuple[bool, ...] | None:
    """Return which actions are relative to the state (LeRobot processor/relative_action_processor.py)."""
    step = steps.get("relative_actions_processor", {}).get("config", {})
    enabled = bool(step.get("enabled"))
    if bool(steps.get("absolute_actions_processor", {}).get("config", {}).get("enabled")) != enabled:
        raise CheckpointError(f"{PREPROCESSOR} and {POSTPROCESSOR} disagree on whether actions are relative")
    if not enabled:
        return None
    excluded = [str(name).lower() for name in step.get("exclude_joints") or [] if name]
    names = [str(name).lower() for name in step.get("action_names") or []][:size]
    relative = [not any(token in name for token in excluded) for name in names]
    return tuple(relative + [True] * (size - len(relative)))
