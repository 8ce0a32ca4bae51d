"""Describe a checkpoint, and what the policy does with it, in words. Weights are not read."""

from __future__ import annotations

from pathlib import Path

from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
from pi0_ttnn_core.checkpoints.files import CheckpointError
from pi0_ttnn_core.checkpoints.metadata import CheckpointMetadata
from pi0_ttnn_core.processing.pipeline import sizes, transforms
from pi0_ttnn_core.processing.robot import Robot, incompatibilities
from pi0_ttnn_core.processing.tokenizer import PromptTokenizer, TokenizerError, find_tokenizer


def inspect(folder: Path, robot: Robot | None) -> tuple[str, bool]:
    """Return a report on the checkpoint, and whether it can run, on `robot` if given.

    Raises:
        CheckpointError: the folder does not hold a usable checkpoint.
    """
    checkpoint = open_checkpoint(folder, robot.normalization_key if robot else "")
    metadata, config = checkpoint.metadata, checkpoint.config
    conventions = (robot.conventions if robot else "") or metadata.layout
    lines = [
        f"{folder}: {config.family}, {metadata.layout} layout, {len(checkpoint.tensors)} tensors in "
        f"{', '.join(checkpoint.dtypes)}",
        f"  cameras: {', '.join(metadata.cameras)}",
        f"  state: {_size(metadata.state_size)}, action: {_size(metadata.action_size)}, "
        f"horizon {config.action_horizon}, {config.num_steps} Euler steps",
        f"  normalisation: state {metadata.state_statistics.kind}, action {metadata.action_statistics.kind}",
    ]
    steps, problems = _steps(folder, metadata, robot, conventions)
    lines += [f"steps of an inference, by the conventions of {conventions}:"]
    lines += [f"  {number}. {step}" for number, step in enumerate(steps, start=1)]
    if robot is not None:
        problems = incompatibilities(robot, metadata) + problems
    lines += ["cannot run:" if problems else "can run" + (" on this robot" if robot else "")]
    lines += [f"  {problem}" for problem in problems]
    return "\n".join(lines), not problems


def _size(size: int | None) -> str:
    return "as many values as the robot has joints" if size is None else f"{size} values"


def _steps(
    folder: Path, metadata: CheckpointMetadata, robot: Robot | None, conventions: str
) -> tuple[list[str], list[str]]:
    """Return the steps of an inference in words, and the problems that prevent them."""
    image_size = metadata.config.vision.image_size
    present = [camera for camera in metadata.cameras if robot is None or camera in robot.cameras]
    absent = [camera for camera in metadata.cameras if camera not in present]
    steps = [f"images: {', '.join(present)}" + (f"; masked: {', '.join(absent)}" if absent else "")]
    how = "bilinear" if conventions == "lerobot" else "bilinear with antialiasing"
    steps += [f"resize_with_pad: {how} to {image_size} x {image_size}, black around, to [-1, 1]"]
    problems = []
    try:
        state_size, action_size = sizes(metadata, robot)
        if robot is None or not incompatibilities(robot, metadata):
            steps += [str(step) for step in transforms(metadata, robot, conventions, state_size, action_size)]
    except CheckpointError as error:
        problems.append(str(error))
    try:
        file = find_tokenizer(folder, robot.tokenizer if robot else None)
        steps += [f"{PromptTokenizer(file, metadata.config, conventions)}, by {file}"]
    except TokenizerError as error:
        problems.append(str(error))
    steps += [f"pad the state to {metadata.config.action_dim} values"]
    steps += [f"the model: {metadata.config.action_horizon} x {metadata.config.action_dim} actions"]
    steps += ["back: the actions of the robot's joints, through the same steps in reverse"]
    return steps, problems
