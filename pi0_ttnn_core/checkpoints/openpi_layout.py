"""The metadata of an openpi checkpoint that was exported to PyTorch.

openpi's examples/convert_jax_model_to_pytorch.py writes config.json with the action's dimension and horizon, and copies
assets/<asset id>/norm_stats.json. Only the tensors' names say whether it is PI0.5. Transforms are part of openpi's
training config, which is not exported, so the robot's YAML must name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ttnn_core.checkpoints.files import CheckpointError, StoredTensor, read_json
from pi0_ttnn_core.checkpoints.metadata import CheckpointMetadata
from pi0_ttnn_core.checkpoints.statistics import KINDS, Statistics
from pi0_ttnn_core.configs import PI0, PI05, ConfigError, PI0Config, config_from_architecture

# openpi models/model.py, IMAGE_KEYS
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
STATISTICS_FILE = "norm_stats.json"


def read_openpi_metadata(
    folder: Path, settings: dict[str, Any], stored: Mapping[str, StoredTensor], normalization_key: str
) -> CheckpointMetadata:
    """Return the metadata from config.json, the names of the tensors and the chosen norm_stats.json."""
    config = _model_config(settings, stored, folder / "config.json")
    file = _statistics_file(folder, normalization_key)
    kind = "quantiles" if config.pi05 else "mean_std"
    if file is None:
        missing = Statistics(
            kind,
            {},
            missing=f"{folder}/assets/<asset id>/{STATISTICS_FILE} is missing: copy the assets folder of the "
            "checkpoint that was exported",
        )
        state = action = missing
    else:
        statistics = read_json(file)
        statistics = statistics.get("norm_stats", statistics)
        state = _statistics(statistics, "state", kind, config, file)
        action = _statistics(statistics, "actions", kind, config, file)
    return CheckpointMetadata(
        layout="openpi",
        config=config,
        cameras=CAMERAS,
        state_size=_size(state, config),
        action_size=_size(action, config),
        state_statistics=state,
        action_statistics=action,
    )


def normalization_keys(folder: Path) -> list[str]:
    """Return the asset ids of the statistics in the folder."""
    assets = folder / "assets"
    return sorted(str(file.parent.relative_to(assets)) for file in assets.glob(f"**/{STATISTICS_FILE}"))


def _model_config(settings: dict[str, Any], stored: Mapping[str, StoredTensor], file: Path) -> PI0Config:
    base = PI05 if any(name.endswith(".time_mlp_in.weight") or name == "time_mlp_in.weight" for name in stored) else PI0
    for part, variant in (("paligemma_variant", "gemma_2b"), ("action_expert_variant", "gemma_300m")):
        if settings.get(part, variant) != variant:
            raise CheckpointError(f"{file}: {part} is {settings[part]!r}; only {variant!r} is supported")
    try:
        config = replace(
            base,
            action_dim=settings.get("action_dim", base.action_dim),
            action_horizon=settings.get("action_horizon", base.action_horizon),
        )
        if "architecture" in settings:
            config = config_from_architecture(settings["architecture"], config)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return config


def _statistics_file(folder: Path, key: str) -> Path | None:
    keys = normalization_keys(folder)
    if key and key not in keys:
        raise CheckpointError(f"{folder}/assets has no statistics {key!r}, only {keys}: correct normalization_key")
    if not key and len(keys) > 1:
        raise CheckpointError(f"{folder}/assets has statistics of {keys}: choose one by normalization_key")
    if not keys:
        return None
    return folder / "assets" / (key or keys[0]) / STATISTICS_FILE


def _statistics(statistics: dict[str, Any], name: str, kind: str, config: PI0Config, file: Path) -> Statistics:
    values = {}
    for statistic in KINDS[kind]:
        try:
            vector = np.array(statistics[name][statistic], np.float64)
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"{file}: {name}.{statistic} must be a list of numbers") from None
        if vector.ndim != 1 or not 1 <= len(vector) <= config.action_dim or not np.isfinite(vector).all():
            raise CheckpointError(
                f"{file}: {name}.{statistic} must be 1 to {config.action_dim} finite numbers, "
                f"found shape {list(vector.shape)}"
            )
        values[statistic] = vector
    if len({len(vector) for vector in values.values()}) > 1:
        raise CheckpointError(f"{file}: the statistics of {name} differ in length")
    return Statistics(kind, values)


def _size(statistics: Statistics, config: PI0Config) -> int | None:
    """Return the length of the statistics, or None if they are padded: then the robot decides."""
    lengths = {len(vector) for vector in statistics.values.values()}
    size = lengths.pop() if lengths else config.action_dim
    return None if size == config.action_dim else size
