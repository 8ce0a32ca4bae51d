"""The joints' limits: from the parameters, and what they leave out from the URDF. Knows nothing of ROS."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np

from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.parameters.parameters import ParameterError, Parameters
from pi0_ttnn_ros.parameters.topics import ROBOT_DESCRIPTION

# A continuous joint has no position limits in its URDF; rad.
CONTINUOUS = 1e6
URDF_NAMES = {"position_min": "lower", "position_max": "upper", "max_velocity": "velocity"}


def joint_limits(parameters: Parameters, urdf: Callable[[list[str]], str]) -> Limits:
    """Return the limits of `joint_names`; `urdf` is asked, with the parameters that are missing, where there are such.

    Raises:
        ParameterError: one is neither in the parameters nor in the URDF, or does not make sense.
    """
    values = {name: list(getattr(parameters, name)) for name in (*URDF_NAMES, "max_acceleration")}
    missing = [name for name, given in values.items() if not given]
    if missing:
        described = urdf_limits(urdf(missing))
        for name in missing:
            values[name] = [_of(described, joint, name) for joint in parameters.joint_names]
    limits = Limits(tuple(parameters.joint_names), **{name: np.array(given) for name, given in values.items()})
    for index, joint in enumerate(limits.joint_names):
        if limits.position_min[index] >= limits.position_max[index]:
            raise ParameterError(f"position_min of joint {joint!r} is not below its position_max")
        for name in ("max_velocity", "max_acceleration"):
            if getattr(limits, name)[index] <= 0:
                raise ParameterError(f"{name} of joint {joint!r} must be above 0")
    return limits


def urdf_limits(urdf: str) -> dict[str, dict[str, float]]:
    """Return what a URDF says of each joint's limits, by the parameters' names.

    Raises:
        ParameterError: it is no XML.
    """
    try:
        joints = ElementTree.fromstring(urdf).iter("joint")
    except ElementTree.ParseError as error:
        raise ParameterError(f"{ROBOT_DESCRIPTION} is no URDF: {error}") from error
    found: dict[str, dict[str, float]] = {}
    for joint in joints:
        limit = joint.find("limit")
        if limit is None:
            continue
        values = {name: float(limit.get(key, "nan")) for name, key in URDF_NAMES.items()}
        if joint.get("type") == "continuous":
            values["position_min"], values["position_max"] = -CONTINUOUS, CONTINUOUS
        found[joint.get("name", "")] = {name: value for name, value in values.items() if np.isfinite(value)}
    return found


def _of(described: dict[str, dict[str, float]], joint: str, name: str) -> float:
    if name not in described.get(joint, {}):
        raise ParameterError(
            f"parameter {name} is not set, and {ROBOT_DESCRIPTION} does not give it for joint {joint!r}"
        )
    return described[joint][name]
