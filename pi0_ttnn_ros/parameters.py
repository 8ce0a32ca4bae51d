"""Every parameter of the policy node, declared once, with type, range and description."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from pi0_ttnn_core.robot import Robot, robot_from_parameters

TYPES = {
    Parameter.Type.STRING: "string",
    Parameter.Type.INTEGER: "integer",
    Parameter.Type.DOUBLE: "double",
    Parameter.Type.STRING_ARRAY: "string array",
    Parameter.Type.DOUBLE_ARRAY: "double array",
}


class ParameterError(ValueError):
    """A parameter that does not fit; the message names it and the remedy."""


@dataclass(frozen=True)
class Declaration:
    """One parameter. An array without a default is empty until it is set; `bounds` are inclusive."""

    name: str
    type: Parameter.Type
    default: Any
    description: str
    bounds: tuple[float, float] | None = None


STRING, INTEGER, DOUBLE = Parameter.Type.STRING, Parameter.Type.INTEGER, Parameter.Type.DOUBLE
STRINGS, DOUBLES = Parameter.Type.STRING_ARRAY, Parameter.Type.DOUBLE_ARRAY

DECLARATIONS = (
    Declaration("checkpoint", STRING, "", "Folder of the checkpoint. Required."),
    Declaration("backend", STRING, "torch", "What runs the model: torch (CPU) or ttnn (Wormhole)."),
    Declaration("dtype", STRING, "float32", "Of weights and activations on the torch backend: float32 or bfloat16."),
    Declaration(
        "precision",
        STRING,
        "default",
        "Preset of dtypes and math fidelity on the ttnn backend: accuracy, default, fast.",
    ),
    Declaration("num_steps", INTEGER, 0, "Euler steps of the flow; 0 takes the checkpoint's number.", (0, 100)),
    Declaration("seed", INTEGER, 0, "Of the noise, which seed and observation stamp decide.", (0, 2**31 - 1)),
    Declaration("instruction", STRING, "", "Instruction at the start; empty waits for one on the topic ~/instruction."),
    Declaration("inference_rate", DOUBLE, 10.0, "Upper bound of inferences per second, Hz.", (0.1, 100.0)),
    Declaration("time_step", DOUBLE, 0.02, "Time between two actions, s: that of the training data.", (0.001, 1.0)),
    Declaration("cameras", STRINGS, None, "The checkpoint's camera names that this robot has. Required."),
    Declaration(
        "camera_topics",
        STRINGS,
        None,
        "Image topic of each camera; CompressedImage where it ends in /compressed. Required.",
    ),
    Declaration(
        "transforms",
        STRINGS,
        None,
        "Steps between the robot's units and the checkpoint's, in this order: "
        "degrees, joint_signs, gripper_range, aloha, relative_actions.",
    ),
    Declaration("degrees.joints", STRINGS, None, "Joints in rad here that the checkpoint knows in degrees."),
    Declaration("joint_signs.joints", STRINGS, None, "Joints that turn the other way in the checkpoint."),
    Declaration("gripper_range.joints", STRINGS, None, "Grippers whose range differs in the checkpoint."),
    Declaration("gripper_range.robot", DOUBLES, None, "Such a gripper closed and open on the robot, rad or m."),
    Declaration("gripper_range.model", DOUBLES, None, "The same closed and open in the checkpoint's data."),
    Declaration(
        "relative_actions.joints",
        STRINGS,
        None,
        "Joints whose actions are offsets from the state, where the checkpoint does not say so itself (openpi's).",
    ),
    Declaration(
        "conventions",
        STRING,
        "",
        "Whose prompt and normalisation hold: lerobot or openpi; empty: those of the checkpoint's layout.",
    ),
    Declaration(
        "normalization_key", STRING, "", "Asset id of the statistics, where an openpi checkpoint holds several."
    ),
    Declaration("tokenizer", STRING, "", "PaliGemma's tokenizer file; empty: the one in the checkpoint's folder."),
    Declaration("joint_state_topic", STRING, "joint_states", "Topic of the measured joint states."),
    Declaration("joint_names", STRINGS, None, "Joints in the order of the checkpoint's state and action. Required."),
    Declaration(
        "trajectory_topic", STRING, "joint_trajectory_controller/joint_trajectory", "Topic of the commanded trajectory."
    ),
    Declaration("position_min", DOUBLES, None, "Lower position limit of each joint, rad or m. Required."),
    Declaration("position_max", DOUBLES, None, "Upper position limit of each joint, rad or m. Required."),
    Declaration("max_velocity", DOUBLES, None, "Velocity limit of each joint, rad/s or m/s. Required."),
    Declaration("input_wait", DOUBLE, 10.0, "How long configure waits for every input, s.", (0.0, 600.0)),
    Declaration(
        "image_timeout", DOUBLE, 0.5, "An image older than this is stale and the robot holds, s.", (0.01, 60.0)
    ),
    Declaration(
        "joint_state_timeout",
        DOUBLE,
        0.2,
        "Joint states older than this are stale and the robot holds, s.",
        (0.01, 60.0),
    ),
)


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
    time_step: float
    robot: Robot
    cameras: list[str]
    camera_topics: list[str]
    joint_state_topic: str
    joint_names: list[str]
    trajectory_topic: str
    position_min: np.ndarray
    position_max: np.ndarray
    max_velocity: np.ndarray
    input_wait: float
    image_timeout: float
    joint_state_timeout: float


def declare_parameters(node: Node) -> None:
    """Declare every parameter on `node`."""
    for declaration in DECLARATIONS:
        value = declaration.type if declaration.default is None else declaration.default
        node.declare_parameter(declaration.name, value, _descriptor(declaration))


def read_parameters(node: Node) -> Parameters:
    """Return the node's parameters.

    Raises:
        ParameterError, RobotError: a required one is missing, or one does not fit another.
    """
    given = {declaration.name: _value(node, declaration.name) for declaration in DECLARATIONS}
    values = {field.name: given[field.name] for field in fields(Parameters) if field.name != "robot"}
    for name in (
        "checkpoint",
        "cameras",
        "camera_topics",
        "joint_names",
        "position_min",
        "position_max",
        "max_velocity",
    ):
        if not values[name]:
            raise ParameterError(f"parameter {name} is not set: give it in the robot's YAML or with -p {name}:=...")
    for name in ("position_min", "position_max", "max_velocity"):
        values[name] = np.array(values[name], np.float64)
    parameters = Parameters(robot=robot_from_parameters(given), **values)
    _check(parameters)
    return parameters


def markdown_table() -> str:
    """Return the table of the parameters for the README."""
    lines = ["| parameter | type | default | range | meaning |", "| --- | --- | --- | --- | --- |"]
    for declaration in DECLARATIONS:
        default = "" if declaration.default in (None, "") else f"`{declaration.default}`"
        bounds = f"{declaration.bounds[0]:g} to {declaration.bounds[1]:g}" if declaration.bounds else ""
        cells = (f"`{declaration.name}`", TYPES[declaration.type], default, bounds, declaration.description)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _descriptor(declaration: Declaration) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=declaration.description)
    if declaration.bounds is None:
        return descriptor
    low, high = declaration.bounds
    if declaration.type == INTEGER:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    else:
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor


def _value(node: Node, name: str) -> Any:
    # An array that nobody set has no value at all.
    value = node.get_parameter_or(name, Parameter(name)).value
    if value is None:
        return []
    return list(value) if not isinstance(value, str | int | float) else value


def _check(parameters: Parameters) -> None:
    if len(parameters.camera_topics) != len(parameters.cameras):
        raise ParameterError(
            f"camera_topics has {len(parameters.camera_topics)} entries, "
            f"cameras {len(parameters.cameras)}: one topic each"
        )
    joints = len(parameters.joint_names)
    for name in ("cameras", "camera_topics", "joint_names"):
        values = getattr(parameters, name)
        doubled = sorted({value for value in values if values.count(value) > 1})
        if doubled:
            raise ParameterError(f"{name} names {doubled} more than once")
    for name in ("position_min", "position_max", "max_velocity"):
        values = getattr(parameters, name)
        if len(values) != joints:
            raise ParameterError(f"{name} has {len(values)} entries, joint_names {joints}: one value each")
        if not np.isfinite(values).all():
            raise ParameterError(f"{name} has a value that is not finite")
    for index, joint in enumerate(parameters.joint_names):
        if parameters.position_min[index] >= parameters.position_max[index]:
            raise ParameterError(f"position_min of joint {joint!r} is not below its position_max")
        if parameters.max_velocity[index] <= 0:
            raise ParameterError(f"max_velocity of joint {joint!r} must be above 0")
