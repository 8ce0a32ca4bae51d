"""What a checkpoint of any layout says of itself, beside its weights."""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ttnn_core.checkpoints.statistics import Statistics
from pi0_ttnn_core.configs import PI0Config


@dataclass(frozen=True)
class CheckpointMetadata:
    """What the policy must know to treat observations and actions as in training.

    layout: "lerobot" or "openpi"
    cameras: image names in the order of training
    state_size, action_size: of the robot; None where the statistics are padded and the robot decides
    relative_joints: which actions are relative to the state, where the checkpoint says so
    """

    layout: str
    config: PI0Config
    cameras: tuple[str, ...]
    state_size: int | None
    action_size: int | None
    state_statistics: Statistics
    action_statistics: Statistics
    relative_joints: tuple[bool, ...] | None = None
