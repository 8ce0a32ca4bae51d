"""The thresholds of a replay's verdict, from the robot's YAML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pi0_ttnn_core.processing.robot import yaml_parameters
from pi0_ttnn_ros.parameters.declarations import ParameterError

SECTION = "replay"
GRIPPER_JOINTS = "gripper_joints"
# Joints with one of these in their names open and close, unless the YAML lists those that do.
GRIPPER_NAMES = ("gripper", "finger")


def _threshold(default: float, value: str, unit: str, label: str, absent: str = "nothing was compared") -> Any:
    """Declare a threshold on `value`, a path in `Summary`; `absent` says why it can be None."""
    return field(default=default, metadata={"value": value, "unit": unit, "label": label, "absent": absent})


RADIANS = "rad (m)"
FRACTION = "fraction"  # from 0 to 1
STILL = "the recorded robot stood still"
NO_REFERENCE = "there is no reference"


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a replay's verdict. The metadata of each is what it applies to, its unit and a description."""

    max_mae: float = _threshold(0.1, "mae", RADIANS, "mean absolute error of the arm's joints")
    max_normalized_mae: float = _threshold(0.5, "normalized_mae", "", "mean absolute error of all joints, normalised")
    max_hold_ratio: float = _threshold(1.0, "hold_ratio", "", "normalised error relative to standing still", STILL)
    max_jerk_ratio: float = _threshold(10.0, "jerk_ratio", "", "RMS jerk of the arm relative to the recording", STILL)
    max_jump_violations: float = _threshold(
        0.0, "violations.jump.fraction", FRACTION, "chunks that the jump guard refuses"
    )
    max_position_violations: float = _threshold(
        0.05, "violations.position.fraction", FRACTION, "chunks that exceed a position limit"
    )
    max_velocity_violations: float = _threshold(
        0.2, "violations.velocity.fraction", FRACTION, "chunks that exceed a velocity limit"
    )
    max_acceleration_violations: float = _threshold(
        1.0, "violations.acceleration.fraction", FRACTION, "chunks that exceed an acceleration limit"
    )
    min_gripper_agreement: float = _threshold(
        0.9,
        "gripper_agreement",
        FRACTION,
        "steps with the gripper open or closed as recorded",
        "there is no gripper joint",
    )
    min_gripper_change_agreement: float = _threshold(
        0.5,
        "gripper_change_agreement",
        FRACTION,
        "the same of the steps by which the recorded gripper has opened or closed",
        "no gripper was opened or closed",
    )
    max_latency_p95: float = _threshold(0.5, "latency.p95", "s", "latency, 95th percentile")
    max_unusable: float = _threshold(
        0.2, "unusable_fraction", FRACTION, "joint states without a usable observation", "there are no joint states"
    )
    max_dropped_frames: float = _threshold(
        0.05, "dropped_frames", FRACTION, "frames that the worst camera dropped", "there are no cameras"
    )
    min_pcc: float = _threshold(
        0.99, "reference.pcc_mean", "", "mean correlation of the chunks with the reference's", NO_REFERENCE
    )
    max_reference_difference: float = _threshold(
        0.05,
        "reference.difference",
        RADIANS,
        "largest difference from an action of the reference",
        NO_REFERENCE,
    )


@dataclass(frozen=True)
class ReplaySettings:
    """The section `replay` of a robot's YAML.

    Attributes:
        thresholds: of the verdict.
        grippers: joints that open and close, in the order of joint_names.
    """

    thresholds: Thresholds
    grippers: tuple[str, ...]


def replay_settings(file: Path, joint_names: Sequence[str]) -> ReplaySettings:
    """Read the section `replay` of a robot's YAML; what it omits has its default.

    Raises:
        ParameterError: a name is unknown, a value has the wrong type, or a gripper is not a joint.
        RobotError: the file is not the parameter file of one node.
        OSError: the file cannot be read.
    """
    prefix = SECTION + "."
    values = yaml_parameters(file)
    if SECTION in values:
        raise ParameterError(f"{file}: {SECTION} is {values[SECTION]!r}, but must be a section of names and values")
    given = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    known = [each.name for each in fields(Thresholds)]
    for name, value in given.items():
        if name not in (*known, GRIPPER_JOINTS):
            raise ParameterError(f"{file}: {prefix}{name} is unknown: choose from {[*known, GRIPPER_JOINTS]}")
        if name in known and not (type(value) in (int, float) and math.isfinite(value)):
            raise ParameterError(f"{file}: {prefix}{name} is {value!r}, but must be a number")
    grippers = _grippers(given.pop(GRIPPER_JOINTS, None), joint_names, f"{file}: {prefix}{GRIPPER_JOINTS}")
    return ReplaySettings(Thresholds(**{name: float(value) for name, value in given.items()}), grippers)


def _grippers(given: Any, joint_names: Sequence[str], label: str) -> tuple[str, ...]:
    if given is None:
        return tuple(name for name in joint_names if any(part in name.lower() for part in GRIPPER_NAMES))
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise ParameterError(f"{label} is {given!r}, but must be a list of joint names")
    unknown = [name for name in given if name not in joint_names]
    if unknown:
        raise ParameterError(f"{label} names {unknown}, which are not in joint_names")
    return tuple(name for name in joint_names if name in given)
