"""Every parameter of the policy node, declared once, with type, range and description. Knows nothing of ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ttnn_core.processing.robot import Robot, robot_from_parameters, yaml_parameters
from pi0_ttnn_ros.execution.chunk_executor import STRATEGIES
from pi0_ttnn_ros.execution.safety import LIMIT_POLICIES
from pi0_ttnn_ros.observation.buffer import HEARTBEAT, INSTRUCTION, JOINT_STATES
from pi0_ttnn_ros.parameters.declarations import ARRAYS, CONTROLLER_TYPES, DECLARATIONS, PYTHON_TYPES, Declaration


class ParameterError(ValueError):
    """A parameter that does not fit; the message names it and the remedy."""


@dataclass(frozen=True)
class Parameters:
    """The values at configure, checked against each other. Field names are the parameters' names."""

    checkpoint: str
    backend: str
    dtype: str
    precision: str
    num_steps: int
    seed: int
    instruction: str
    inference_rate: float
    inference_timeout: float
    load_timeout: float
    strategy: str
    execution_horizon: int
    temporal_ensemble_coeff: float
    command_rate: float
    time_step: float
    robot: Robot
    cameras: list[str]
    camera_topics: list[str]
    joint_state_topic: str
    joint_names: list[str]
    controller_topics: list[str]
    controller_types: list[str]
    controller_of_joint: list[int]
    stamp_trajectories: bool
    gripper_max_effort: float
    position_min: list[float]
    position_max: list[float]
    max_velocity: list[float]
    max_acceleration: list[float]
    limit_policy: str
    max_jump_time: float
    max_chunk_age: float
    speed_scaling: float
    dry_run: bool
    introspection: bool
    marker_links: list[str]
    input_wait: float
    image_timeout: float
    joint_state_timeout: float
    instruction_timeout: float
    heartbeat_timeout: float
    sync_tolerance: float

    @property
    def input_timeouts(self) -> dict[str, float]:
        """The timeout of each input by its name, as `ObservationBuffer` takes them."""
        timeouts = dict.fromkeys(self.cameras, self.image_timeout) | {JOINT_STATES: self.joint_state_timeout}
        optional = {INSTRUCTION: self.instruction_timeout, HEARTBEAT: self.heartbeat_timeout}
        return timeouts | {name: timeout for name, timeout in optional.items() if timeout > 0}


def parameters_from_yaml(file: Path, overrides: Mapping[str, Any]) -> Parameters:
    """Return the parameters of a ROS parameter file as the node would read them; `overrides` go before the file's.

    Raises:
        ParameterError, RobotError: a value has another type or is out of range, a required one is missing, or one does
            not fit another.
        OSError: the file cannot be read.
    """
    given = {**yaml_parameters(file), **overrides}
    return checked_parameters({declaration.name: _typed(declaration, given, file) for declaration in DECLARATIONS})


def checked_parameters(given: Mapping[str, Any]) -> Parameters:
    """Return the parameters with these values by the declared names; an array that nobody set is empty.

    Raises:
        ParameterError, RobotError: a required one is missing, or one does not fit another.
    """
    values = {field.name: given[field.name] for field in fields(Parameters) if field.name != "robot"}
    for name in ("checkpoint", "cameras", "camera_topics", "joint_names", "max_acceleration"):
        if not values[name]:
            raise ParameterError(f"parameter {name} is not set: give it in the robot's YAML or with -p {name}:=...")
    values["controller_of_joint"] = values["controller_of_joint"] or [0] * len(values["joint_names"])
    parameters = Parameters(robot=robot_from_parameters(given), **values)
    _check(parameters)
    return parameters


def _typed(declaration: Declaration, given: Mapping[str, Any], file: Path) -> Any:
    if declaration.name not in given:
        return [] if declaration.default is None else declaration.default
    value, kind = given[declaration.name], PYTHON_TYPES[declaration.type]
    elements = value if isinstance(value, list) else [value]
    # As rcl does it: an integer is no double, so that a YAML that is read here is one that the node takes.
    is_array = isinstance(value, list)
    if is_array != (declaration.type in ARRAYS) or any(type(element) is not kind for element in elements):
        raise ParameterError(f"{file}: {declaration.name} is {value!r}, but must be of type {declaration.type}")
    if declaration.bounds and not declaration.bounds[0] <= value <= declaration.bounds[1]:
        low, high = declaration.bounds
        raise ParameterError(f"{file}: {declaration.name} is {value}, but must be from {low:g} to {high:g}")
    return value


def _check(parameters: Parameters) -> None:
    if len(parameters.camera_topics) != len(parameters.cameras):
        raise ParameterError(
            f"camera_topics has {len(parameters.camera_topics)} entries, "
            f"cameras {len(parameters.cameras)}: one topic each"
        )
    for name in ("cameras", "camera_topics", "joint_names", "controller_topics"):
        values = getattr(parameters, name)
        doubled = sorted({value for value in values if values.count(value) > 1})
        if doubled:
            raise ParameterError(f"{name} names {doubled} more than once")
    for name, choices in (("strategy", STRATEGIES), ("limit_policy", LIMIT_POLICIES)):
        if getattr(parameters, name) not in choices:
            raise ParameterError(f"{name} is {getattr(parameters, name)!r}: choose one of {list(choices)}")
    _check_controllers(parameters)
    joints = len(parameters.joint_names)
    for name in ("position_min", "position_max", "max_velocity", "max_acceleration"):
        values = getattr(parameters, name)
        if values and len(values) != joints:
            raise ParameterError(f"{name} has {len(values)} entries, joint_names {joints}: one value each")
        if not np.isfinite(values).all():
            raise ParameterError(f"{name} has a value that is not finite")


def _check_controllers(parameters: Parameters) -> None:
    count, joints = len(parameters.controller_topics), len(parameters.joint_names)
    if len(parameters.controller_types) != count:
        raise ParameterError(
            f"controller_types has {len(parameters.controller_types)} entries, controller_topics {count}: one each"
        )
    unknown = [name for name in parameters.controller_types if name not in CONTROLLER_TYPES]
    if unknown:
        raise ParameterError(f"controller_types names {unknown}: choose from {list(CONTROLLER_TYPES)}")
    of_joint = parameters.controller_of_joint
    if len(of_joint) != joints:
        raise ParameterError(f"controller_of_joint has {len(of_joint)} entries, joint_names {joints}: one each")
    if set(of_joint) != set(range(count)):
        raise ParameterError(
            f"controller_of_joint names the controllers {sorted(set(of_joint))}; there are {count}, from 0, and each "
            f"needs a joint"
        )
