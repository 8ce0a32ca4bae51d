"""What the policy does with an observation before the model, and with the actions after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pi0_ttnn_core.checkpoints.checkpoint import Checkpoint
from pi0_ttnn_core.checkpoints.files import CheckpointError
from pi0_ttnn_core.checkpoints.metadata import CheckpointMetadata
from pi0_ttnn_core.processing.images import RESIZES
from pi0_ttnn_core.processing.normalization import make_normalization
from pi0_ttnn_core.processing.robot import Robot, RobotError, incompatibilities
from pi0_ttnn_core.processing.tokenizer import PromptTokenizer, find_tokenizer
from pi0_ttnn_core.processing.transforms import Normalize, RelativeActions, Transform


@dataclass(frozen=True)
class ProcessingPipeline:
    """The steps of one checkpoint on one robot."""

    state_size: int
    action_size: int
    resize: Callable[[np.ndarray, int], np.ndarray]
    transforms: tuple[Transform, ...]
    tokenizer: PromptTokenizer


def build_pipeline(checkpoint: Checkpoint, robot: Robot | None) -> ProcessingPipeline:
    """Return the steps for `robot`; without one, for the robot that the checkpoint was trained on.

    Raises:
        RobotError: the robot does not fit the checkpoint; all that is wrong is listed.
        CheckpointError: the checkpoint lacks statistics.
        TokenizerError: there is no usable tokenizer.
    """
    settings = checkpoint.settings
    if robot is not None and (found := incompatibilities(robot, settings)):
        raise RobotError(f"the robot does not fit {checkpoint.folder}: " + "; ".join(found))
    state_size, action_size = sizes(settings, robot)
    conventions = (robot.conventions if robot else "") or settings.layout
    file = find_tokenizer(checkpoint.folder, robot.tokenizer if robot else None)
    return ProcessingPipeline(
        state_size=state_size,
        action_size=action_size,
        resize=RESIZES[conventions],
        transforms=transforms(settings, robot, conventions, state_size, action_size),
        tokenizer=PromptTokenizer(file, settings.config, conventions),
    )


def sizes(settings: CheckpointMetadata, robot: Robot | None) -> tuple[int, int]:
    """Return the sizes of state and action: the checkpoint's, or the robot's where the checkpoint leaves them open."""
    joints = len(robot.joint_names) if robot else settings.config.action_dim
    return settings.state_size or joints, settings.action_size or joints


def transforms(
    settings: CheckpointMetadata, robot: Robot | None, conventions: str, state_size: int, action_size: int
) -> tuple[Transform, ...]:
    """Return the steps of states and actions, the robot's first and normalisation last."""
    for statistics in (settings.state_statistics, settings.action_statistics):
        if statistics.missing:
            raise CheckpointError(statistics.missing)
    steps: list[Transform] = list(robot.steps) if robot else []
    if settings.relative_joints is not None:
        steps.append(RelativeActions(np.array(settings.relative_joints)))
    normalize = Normalize(
        make_normalization(settings.state_statistics, state_size, conventions),
        make_normalization(settings.action_statistics, action_size, conventions),
    )
    return (*steps, normalize)
