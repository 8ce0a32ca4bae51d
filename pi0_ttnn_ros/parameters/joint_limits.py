"""The joints' limits: from the parameters, and what they leave out from the URDF. Knows nothing of ROS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.parameters.parameters import ParameterError, Parameters
from pi0_ttnn_ros.parameters.topics import ROBOT_DESCRIPTION
from pi0_ttnn_ros.parameters.urdf import parse_urdf

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
    """Return each joint's limits in a URDF, by the parameters' names.

    Raises:
        ParameterError: the text is not a valid URDF.
    """
    found: dict[str, dict[str, float]] = {}
    for joint in parse_urdf(urdf).joints:
        if joint.limit is not None:
            values = {name: getattr(joint.limit, key) for name, key in URDF_NAMES.items()}
            if joint.type == "continuous":
                values |= {"position_min": -CONTINUOUS, "position_max": CONTINUOUS}
            found[joint.name] = {name: value for name, value in values.items() if np.isfinite(value)}
    return found


def _of(described: dict[str, dict[str, float]], joint: str, name: str) -> float:
    if name not in described.get(joint, {}):
        raise ParameterError(
            f"parameter {name} is not set, and {ROBOT_DESCRIPTION} does not give it for joint {joint!r}"
        )
    return described[joint][name]
