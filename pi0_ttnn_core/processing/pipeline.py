"""The processing of observations before the model, and of actions after it."""

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
    """The processing for one checkpoint on one robot.

    Attributes:
        state_size: number of state values.
        action_size: number of action values.
        resize: fits an image into a square of the given side, see `images`.
        transforms: map states and actions from the robot's units to the model's, and back.
        tokenizer: turns an instruction into prompt tokens.
    """

    state_size: int
    action_size: int
    resize: Callable[[np.ndarray, int], np.ndarray]
    transforms: tuple[Transform, ...]
    tokenizer: PromptTokenizer


def build_pipeline(checkpoint: Checkpoint, robot: Robot | None) -> ProcessingPipeline:
    """Return the processing for `robot`; without one, for the robot that the checkpoint was trained on.

    Raises:
        RobotError: the robot does not fit the checkpoint; the message lists all incompatibilities.
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
    """Return the sizes of state and action: the checkpoint's or, if it does not define them, the robot's."""
    joints = len(robot.joint_names) if robot else metadata.config.action_dim
    return metadata.state_size or joints, metadata.action_size or joints


def transforms(
    metadata: CheckpointMetadata, robot: Robot | None, conventions: str, state_size: int, action_size: int
) -> tuple[Transform, ...]:
    """Return the transforms of states and actions: the robot's first, normalisation last.

    Raises:
        CheckpointError: the checkpoint lacks statistics.
    """
    for statistics in (metadata.state_statistics, metadata.action_statistics):
        if statistics.missing:
            raise CheckpointError(statistics.missing)
    chain: list[Transform] = list(robot.transforms) if robot else []
    if metadata.relative_joints is not None:
        chain.append(RelativeActions(np.array(metadata.relative_joints)))
    normalize = Normalize(
        make_normalization(metadata.state_statistics, state_size, conventions),
        make_normalization(metadata.action_statistics, action_size, conventions),
    )
    return (*chain, normalize)
