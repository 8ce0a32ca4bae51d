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
    metadata = checkpoint.metadata
    if robot is not None and (found := incompatibilities(robot, metadata)):
        raise RobotError(f"the robot does not fit {checkpoint.folder}: " + "; ".join(found))
    state_size, action_size = sizes(metadata, robot)
    conventions = (robot.conventions if robot else "") or metadata.layout
    file = find_tokenizer(checkpoint.folder, robot.tokenizer if robot else None)
    return ProcessingPipeline(
        state_size=state_size,
        action_size=action_size,
        resize=RESIZES[conventions],
        transforms=transforms(metadata, robot, conventions, state_size, action_size),
        tokenizer=PromptTokenizer(file, metadata.config, conventions),
    )


def sizes(metadata: CheckpointMetadata, robot: Robot | None) -> tuple[int, int]:
    """Return the sizes of state and action: the checkpoint's, or the robot's where the checkpoint leaves them open."""
    joints = len(robot.joint_names) if robot else metadata.config.action_dim
    return metadata.state_size or joints, metadata.action_size or joints


def transforms(
    metadata: CheckpointMetadata, robot: Robot | None, conventions: str, state_size: int, action_size: int
) -> tuple[Transform, ...]:
    """Return the steps of states and actions, the robot's first and normalisation last."""
    for statistics in (metadata.state_statistics, metadata.action_statistics):
        if statistics.missing:
            raise CheckpointError(statistics.missing)
    steps: list[Transform] = list(robot.transforms) if robot else []
    if metadata.relative_joints is not None:
        steps.append(RelativeActions(np.array(metadata.relative_joints)))
    normalize = Normalize(
        make_normalization(metadata.state_statistics, state_size, conventions),
        make_normalization(metadata.action_statistics, action_size, conventions),
    )
    return (*steps, normalize)
