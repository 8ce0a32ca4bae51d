"""Whether a policy may be trusted with an arm, by its replay: thresholds from the robot's YAML, a sentence for each.

The YAML is the node's; what is for the replay stands in its section `replay`, which the node does not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from pi0_ttnn_core.robot import yaml_parameters
from pi0_ttnn_ros.parameters import ParameterError
from pi0_ttnn_ros.replay_metrics import NOT_FINITE
from pi0_ttnn_ros.replay_summary import Summary

SECTION = "replay"
GRIPPER_JOINTS = "gripper_joints"
# Joints with one of these in their name open and close, where the YAML does not say which do.
GRIPPER_NAMES = ("gripper", "finger")


def _threshold(default: float, value: str, unit: str, what: str, absent: str = "nothing was compared") -> Any:
    """Declare a threshold of `value`, a path in `Summary`; `absent` says why it can be None."""
    return field(default=default, metadata={"value": value, "unit": unit, "what": what, "absent": absent})


RADIANS = "rad (m)"
PART = "part"  # from 0 to 1, of all
STILL = "the recorded robot stood still"
NO_REFERENCE = "there is no reference backend"


@dataclass(frozen=True)
class Thresholds:
    """What a replay has to keep to pass."""

    max_mae: float = _threshold(0.1, "mae", RADIANS, "mean absolute error of the arm's joints")
    max_normalized_mae: float = _threshold(0.5, "normalized_mae", "", "mean absolute error of all joints, normalised")
    max_hold_ratio: float = _threshold(1.0, "hold_ratio", "", "normalised error relative to standing still", STILL)
    max_jerk_ratio: float = _threshold(10.0, "jerk_ratio", "", "RMS jerk of the arm relative to the recording", STILL)
    max_jump_violations: float = _threshold(0.0, "violations.jump.fraction", PART, "chunks that the jump guard refuses")
    max_position_violations: float = _threshold(
        0.05, "violations.position.fraction", PART, "chunks that break a position limit"
    )
    max_velocity_violations: float = _threshold(
        0.2, "violations.velocity.fraction", PART, "chunks that break a velocity limit"
    )
    max_acceleration_violations: float = _threshold(
        1.0, "violations.acceleration.fraction", PART, "chunks that break an acceleration limit"
    )
    min_gripper_agreement: float = _threshold(
        0.9, "gripper_agreement", PART, "steps with the gripper open or closed as recorded", "there is no gripper joint"
    )
    min_gripper_change_agreement: float = _threshold(
        0.5,
        "gripper_change_agreement",
        PART,
        "the same of the steps by which the recorded gripper has opened or closed",
        "no gripper was opened or closed",
    )
    max_latency_p95: float = _threshold(0.5, "latency.p95", "s", "latency, 95th percentile")
    max_unusable: float = _threshold(
        0.2, "unusable_fraction", PART, "joint states without a usable observation", "there are no joint states"
    )
    max_dropped_frames: float = _threshold(
        0.05, "dropped_frames", PART, "frames that the worst camera dropped", "there are no cameras"
    )
    min_pcc: float = _threshold(
        0.99, "reference.pcc_mean", "", "mean correlation of the chunks with the reference backend's", NO_REFERENCE
    )
    max_reference_difference: float = _threshold(
        0.05,
        "reference.difference",
        RADIANS,
        "largest difference from an action of the reference backend",
        NO_REFERENCE,
    )


@dataclass(frozen=True)
class ReplaySettings:
    """The section `replay` of a robot's YAML; `grippers` in the order of joint_names."""

    thresholds: Thresholds
    grippers: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """One threshold.

    name: that of the threshold, or of a condition that always holds
    passed: None: it was skipped, because there is nothing to measure
    value, threshold: in `unit`: "rad (m)", "s", "part" (from 0 to 1) or none
    sentence: the same in words
    """

    name: str
    passed: bool | None
    value: float | None
    threshold: float
    unit: str
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """Passed where no check failed."""

    passed: bool
    checks: list[Check]


def replay_settings(file: Path, joint_names: Sequence[str]) -> ReplaySettings:
    """Return what the section `replay` of a robot's YAML says; what it leaves out has its default.

    Raises:
        ParameterError: a name is unknown, a value has the wrong type, a gripper is no joint.
        RobotError: the file is no parameter file of one node.
        OSError: it cannot be read.
    """
    prefix = SECTION + "."
    every = yaml_parameters(file)
    if SECTION in every:
        raise ParameterError(f"{file}: {SECTION} is {every[SECTION]!r}, but must be a section of names and values")
    given = {name.removeprefix(prefix): value for name, value in every.items() if name.startswith(prefix)}
    known = [each.name for each in fields(Thresholds)]
    for name, value in given.items():
        if name not in (*known, GRIPPER_JOINTS):
            raise ParameterError(f"{file}: {prefix}{name} is unknown: choose from {[*known, GRIPPER_JOINTS]}")
        if name in known and not (type(value) in (int, float) and math.isfinite(value)):
            raise ParameterError(f"{file}: {prefix}{name} is {value!r}, but must be a number")
    grippers = _grippers(given.pop(GRIPPER_JOINTS, None), joint_names, f"{file}: {prefix}{GRIPPER_JOINTS}")
    return ReplaySettings(Thresholds(**{name: float(value) for name, value in given.items()}), grippers)


def judge(summary: Summary, thresholds: Thresholds) -> Verdict:
    """Return the verdict: what always must hold, and each threshold."""
    always = [_anything(summary), _finite(summary), _commands(summary)]
    return verdict_of([*always, *(_check(each, summary, thresholds) for each in fields(Thresholds))])


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """Return the verdict of these checks."""
    return Verdict(all(check.passed is not False for check in checks), list(checks))


def markdown_table() -> str:
    """Return the table of the section `replay` for the documentation."""
    lines = ["| `replay.` | default | unit | of `summary` | meaning |", "| --- | --- | --- | --- | --- |"]
    for each in fields(Thresholds):
        about = each.metadata
        lines.append(f"| `{each.name}` | {each.default} | {about['unit']} | `{about['value']}` | {about['what']} |")
    names = " or ".join(f"`{name}`" for name in GRIPPER_NAMES)
    lines.append(f"| `{GRIPPER_JOINTS}` | names with {names} in them | | | joints that open and close |")
    return "\n".join(lines) + "\n"


def _grippers(given: Any, joint_names: Sequence[str], what: str) -> tuple[str, ...]:
    if given is None:
        return tuple(name for name in joint_names if any(part in name.lower() for part in GRIPPER_NAMES))
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise ParameterError(f"{what} is {given!r}, but must be a list of joint names")
    unknown = [name for name in given if name not in joint_names]
    if unknown:
        raise ParameterError(f"{what} names {unknown}, which are not in joint_names")
    return tuple(name for name in joint_names if name in given)


def _anything(summary: Summary) -> Check:
    sentence = (
        f"{summary.ticks:,} observations were inferred from, {summary.compared_ticks:,} of them could be compared with "
        f"the recording."
    )
    return Check("compared_ticks", summary.compared_ticks > 0, summary.compared_ticks, 1, "", sentence)


def _finite(summary: Summary) -> Check:
    ticks = summary.violations[NOT_FINITE].ticks
    undefined = summary.reference.undefined if summary.reference else 0
    sentence = "Every action is finite." if not ticks else f"{ticks:,} chunks have values that are not finite."
    if undefined:
        sentence += f" {undefined} chunks have no correlation with the reference backend's: not finite, or constant."
    return Check("finite", ticks + undefined == 0, ticks + undefined, 0, "", sentence)


def _commands(summary: Summary) -> Check:
    if summary.commands is None:
        return Check("commands", None, None, 0, "", "What a running node commanded: skipped, none was recorded.")
    broken = summary.commands.violations
    sentence = f"{summary.commands.count:,} trajectories of a running node were recorded, "
    sentence += "; ".join(f"{count} break {what}" for what, count in broken.items()) or "none breaks a limit"
    return Check("commands", not broken, sum(broken.values()), 0, "", sentence + ".")


def _check(threshold: Field, summary: Summary, thresholds: Thresholds) -> Check:
    name, about = threshold.name, threshold.metadata
    value, limit, unit = _value(summary, about["value"]), getattr(thresholds, name), about["unit"]
    what = about["what"][0].upper() + about["what"][1:]
    if value is None:
        return Check(name, None, None, limit, unit, f"{what}: skipped, {about['absent']}.")
    least = name.startswith("min_")
    passed = value >= limit if least else value <= limit
    asked = f"at {'least' if least else 'most'} {in_words(limit, unit)} is {'asked for' if least else 'allowed'}"
    return Check(name, passed, value, limit, unit, f"{what}: {in_words(value, unit)}, {asked}.")


def in_words(value: float, unit: str) -> str:
    """Return a value with its unit, of the digits that count; parts as percentages."""
    if unit == PART:
        return f"{100 * value:.3g} %"
    if abs(value) >= 1000:
        return f"{value:,.0f} {unit}".strip()
    return f"{value:.3g} {unit}" if unit else f"{value:.4g}"


def _value(summary: Summary, path: str) -> float | None:
    """Return what the dotted path leads to; None where something on it is None."""
    found: Any = summary
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else getattr(found, name)
        if found is None:
            return None
    return float(found)
