"""A robot as its YAML describes it: cameras, joints, and the transforms between its units and the checkpoint's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pi0_ttnn_core.checkpoints.metadata import CheckpointMetadata
from pi0_ttnn_core.processing import transforms
from pi0_ttnn_core.processing.normalization import CONVENTIONS
from pi0_ttnn_core.processing.transforms import Aloha, RelativeActions, Transform

TRANSFORMS = ("degrees", "joint_signs", "gripper_range", "aloha", "relative_actions")


class RobotError(ValueError):
    """A robot's description that is invalid or does not fit the checkpoint; the message names the parameter."""


@dataclass(frozen=True)
class Robot:
    """One robot.

    Attributes:
        cameras: names of its cameras, as in the checkpoint.
        joint_names: in the order of the checkpoint's state and action.
        transforms: from the robot's units to the model's, before normalisation.
        conventions: "lerobot" or "openpi", whose prompt and normalisation are used. Empty: by the checkpoint's layout.
        normalization_key: which statistics of an openpi checkpoint are used. Empty: its only ones.
        tokenizer: the tokenizer's file or folder. None: the checkpoint's folder.
    """

    cameras: tuple[str, ...]
    joint_names: tuple[str, ...]
    transforms: tuple[Transform, ...] = ()
    conventions: str = ""
    normalization_key: str = ""
    tokenizer: Path | None = None


def robot_from_parameters(parameters: Mapping[str, Any]) -> Robot:
    """Return the robot that ROS parameters describe, given by full name; absent ones have their defaults.

    Raises:
        RobotError: a name is unknown, or an option of a transform is missing or does not fit the joints.
    """
    joint_names = tuple(parameters.get("joint_names") or ())
    names = list(parameters.get("transforms") or ())
    unknown = [name for name in names if name not in TRANSFORMS]
    if unknown:
        raise RobotError(f"transforms names {unknown}; known are {list(TRANSFORMS)}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise RobotError(f"transforms names {repeated} more than once")
    conventions = parameters.get("conventions") or ""
    if conventions and conventions not in CONVENTIONS:
        raise RobotError(f"conventions is {conventions!r}; choose one of {list(CONVENTIONS)} or leave it empty")
    tokenizer = parameters.get("tokenizer")
    return Robot(
        cameras=tuple(parameters.get("cameras") or ()),
        joint_names=joint_names,
        transforms=tuple(_BUILDERS[name](joint_names, parameters) for name in names),
        conventions=conventions,
        normalization_key=parameters.get("normalization_key") or "",
        tokenizer=Path(tokenizer) if tokenizer else None,
    )


def robot_from_yaml(file: Path) -> Robot:
    """Return the robot that a ROS parameter file describes.

    Raises:
        RobotError: the file is not a parameter file of one node.
        OSError: it cannot be read.
    """
    return robot_from_parameters(yaml_parameters(file))


def yaml_parameters(file: Path) -> dict[str, Any]:
    """Return the values of a ROS parameter file by their full names, `outer.inner` where they are nested.

    Raises:
        RobotError: the file is not a parameter file of one node.
        OSError: it cannot be read.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        (node,) = content.values()
        return _flatten(node["ros__parameters"])
    except (yaml.YAMLError, AttributeError, ValueError, KeyError, TypeError) as error:
        raise RobotError(f"{file} is not a ROS parameter file of one node ({error})") from error


def incompatibilities(robot: Robot, metadata: CheckpointMetadata) -> list[str]:
    """Return all incompatibilities of a robot and a checkpoint, in words."""
    found = []
    unknown = [camera for camera in robot.cameras if camera not in metadata.cameras]
    if unknown:
        found.append(f"cameras names {unknown}; the checkpoint was trained with {list(metadata.cameras)}")
    if not robot.cameras:
        found.append(f"cameras is empty; the checkpoint was trained with {list(metadata.cameras)}")
    joints = len(robot.joint_names)
    for label, size in (("state", metadata.state_size), ("action", metadata.action_size)):
        if size is not None and size != joints:
            found.append(f"joint_names has {joints} joints, the checkpoint's {label} has {size} values")
        elif not 1 <= joints <= metadata.config.action_dim:
            found.append(f"joint_names has {joints} joints, the model takes 1 to {metadata.config.action_dim}")
    if metadata.relative_joints is not None and any(
        isinstance(transform, RelativeActions) for transform in robot.transforms
    ):
        found.append(
            "transforms names relative_actions, but the checkpoint's own pipeline already makes actions relative"
        )
    return found


def _flatten(parameters: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        flat |= _flatten(value, f"{path}{name}.") if isinstance(value, Mapping) else {path + name: value}
    return flat


def _joints(option: str, joint_names: Sequence[str], parameters: Mapping[str, Any]) -> list[str]:
    joints = list(parameters.get(option) or ())
    if not joints:
        raise RobotError(f"{option} is not set: name the joints to transform")
    unknown = [name for name in joints if name not in joint_names]
    if unknown:
        raise RobotError(f"{option} names {unknown}, which are not in joint_names")
    return joints


def _closed_open(option: str, parameters: Mapping[str, Any]) -> tuple[float, float]:
    positions = list(parameters.get(option) or ())
    if len(positions) != 2 or positions[0] == positions[1] or not np.isfinite(positions).all():
        raise RobotError(f"{option} must be two different numbers, closed and open, not {positions}")
    return float(positions[0]), float(positions[1])


def _degrees(joint_names: Sequence[str], parameters: Mapping[str, Any]) -> Transform:
    return transforms.degrees(joint_names, _joints("degrees.joints", joint_names, parameters))


def _joint_signs(joint_names: Sequence[str], parameters: Mapping[str, Any]) -> Transform:
    return transforms.joint_signs(joint_names, _joints("joint_signs.joints", joint_names, parameters))


def _gripper_range(joint_names: Sequence[str], parameters: Mapping[str, Any]) -> Transform:
    return transforms.gripper_range(
        joint_names,
        _joints("gripper_range.joints", joint_names, parameters),
        _closed_open("gripper_range.robot", parameters),
        _closed_open("gripper_range.model", parameters),
    )


def _aloha(joint_names: Sequence[str], parameters: Mapping[str, Any]) -> Transform:
    if len(joint_names) != len(Aloha.signs):
        raise RobotError(
            f"transforms names aloha, which has two arms of six joints and a gripper: joint_names has "
            f"{len(joint_names)} joints instead of {len(Aloha.signs)}"
        )
    return Aloha()


def _relative_actions(joint_names: Sequence[str], parameters: Mapping[str, Any]) -> Transform:
    joints = _joints("relative_actions.joints", joint_names, parameters)
    return RelativeActions(np.array([name in joints for name in joint_names]))


_BUILDERS: dict[str, Callable[[Sequence[str], Mapping[str, Any]], Transform]] = {
    "degrees": _degrees,
    "joint_signs": _joint_signs,
    "gripper_range": _gripper_range,
    "aloha": _aloha,
    "relative_actions": _relative_actions,
}
