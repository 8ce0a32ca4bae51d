"""The joints' limits: from the parameters, checked against the URDF, and what they leave out from the URDF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pi0_ttnn_ros.execution.safety import CONTINUOUS, Limits
from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import ROBOT_DESCRIPTION
from pi0_ttnn_ros.parameters.urdf import parse_urdf

URDF_NAMES = {"min_position": "lower", "max_position": "upper", "max_velocity": "velocity"}
LIMIT_NAMES = (*URDF_NAMES, "max_acceleration")
ROUNDING = 1e-4  # rad or m, by which a limit in a YAML may exceed the URDF's
SHOWN = 3  # missing parameters that are named


def joint_limits(parameters: Parameters, urdf: Callable[[list[str]], str]) -> Limits:
    """Return the limits of `joint_names`.

    Args:
        parameters: the parameters.
        urdf: called with the names of missing parameters, returns the URDF; "" if there is none and none are missing.

    Raises:
        ParameterError: a limit is neither in the parameters nor in the URDF, is wider than the URDF's without
            `allow_wider_limits`, or does not make sense.
    """
    given: dict[str, dict[str, Any]] = {
        joint: {name: getattr(limits, name) for name in LIMIT_NAMES}
        for joint, limits in parameters.joint_limits.items()
    }
    missing = [_full(joint, name) for joint in given for name in URDF_NAMES if given[joint][name] is None]
    described: dict[str, dict[str, float]] = {}
    if missing or not parameters.allow_wider_limits:
        more = [f"and {len(missing) - SHOWN} more"] if len(missing) > SHOWN else []
        text = urdf(missing[:SHOWN] + more)
        described = urdf_limits(text) if text else {}
    given = {joint: _completed(joint, limits, described.get(joint, {})) for joint, limits in given.items()}
    for joint, limits in given.items():
        _check(joint, limits)
        if not parameters.allow_wider_limits:
            _check_against_urdf(joint, limits, described.get(joint, {}))
    return Limits(
        tuple(given),
        position_min=np.array([limits["min_position"] for limits in given.values()]),
        position_max=np.array([limits["max_position"] for limits in given.values()]),
        max_velocity=np.array([limits["max_velocity"] for limits in given.values()]),
        max_acceleration=np.array([limits["max_acceleration"] for limits in given.values()]),
    )


def tracking_tolerances(parameters: Parameters, limits: Limits) -> np.ndarray:
    """Return the largest tracking error of each joint, float64 [joints], rad or m; infinite for one not judged.

    A gripper that holds something never arrives where it is commanded to be.
    """
    tolerances = np.full(len(limits.joint_names), np.inf)
    if not parameters.max_tracking_time:
        return tolerances
    for index, joint in enumerate(limits.joint_names):
        given = parameters.joint_limits[joint].max_tracking_error
        if given is not None:
            tolerances[index] = given
        elif joint not in parameters.grippers:
            tolerances[index] = limits.max_velocity[index] * parameters.max_tracking_time
    return tolerances


def urdf_limits(urdf: str) -> dict[str, dict[str, float]]:
    """Return each joint's limits in a URDF, by the parameters' names.

    Raises:
        ParameterError: the text is not a valid URDF.
    """
    found: dict[str, dict[str, float]] = {}
    for joint in parse_urdf(urdf).joints:
        values = {} if joint.limit is None else {name: getattr(joint.limit, key) for name, key in URDF_NAMES.items()}
        if joint.type == "continuous":
            values |= {"min_position": -CONTINUOUS, "max_position": CONTINUOUS}
        if values:
            found[joint.name] = {name: value for name, value in values.items() if np.isfinite(value)}
    return found


def _completed(joint: str, given: dict[str, Any], described: dict[str, float]) -> dict[str, float]:
    for name, value in given.items():
        if value is None and name not in described:
            raise ParameterError(f"parameter {_full(joint, name)} is not set, and {ROBOT_DESCRIPTION} does not give it")
    return {name: described[name] if value is None else value for name, value in given.items()}


def _check(joint: str, limits: dict[str, float]) -> None:
    if limits["min_position"] >= limits["max_position"]:
        raise ParameterError(f"{_full(joint, 'min_position')} is not below {_full(joint, 'max_position')}")
    for name in ("max_velocity", "max_acceleration"):
        if limits[name] <= 0:
            raise ParameterError(f"{_full(joint, name)} is {limits[name]:g}, but must be above 0")


def _check_against_urdf(joint: str, limits: dict[str, float], described: dict[str, float]) -> None:
    """Check that no limit is wider than what the URDF describes; it may leave out a limit, or the joint."""
    for name, value in described.items():
        excess = value - limits[name] if name == "min_position" else limits[name] - value
        if excess > ROUNDING:
            raise ParameterError(
                f"{_full(joint, name)} is {limits[name]:g}, wider than the {value:g} of the URDF on "
                f"{ROBOT_DESCRIPTION}: correct it, leave it out to take the URDF's, or accept it with "
                f"allow_wider_limits: true"
            )


def _full(joint: str, name: str) -> str:
    return f"joint_limits.{joint}.{name}"
