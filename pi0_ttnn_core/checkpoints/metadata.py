"""The metadata of a checkpoint of any layout."""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ttnn_core.checkpoints.statistics import Statistics
from pi0_ttnn_core.configs import PI0Config


@dataclass(frozen=True)
class CheckpointMetadata:
    """What the policy must know to process observations and actions as in training.

    Attributes:
        layout: "lerobot" or "openpi".
        config: sizes of the model.
        cameras: names of the cameras in the order of training.
        state_size: number of state values. None if the statistics are padded; then the robot decides.
        action_size: number of action values, in the same way.
        state_statistics: statistics of the state.
        action_statistics: statistics of the actions.
        relative_joints: which actions are relative to the state. None if the checkpoint does not say.
    """

    layout: str
    config: PI0Config
    cameras: tuple[str, ...]
    state_size: int | None
    action_size: int | None
    state_statistics: Statistics
    action_statistics: Statistics
    relative_joints: tuple[bool, ...] | None = None
