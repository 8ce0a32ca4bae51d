"""The declared parameters on a ROS 2 node."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from pi0_ttnn_ros.parameters.declarations import DECLARATIONS, INTEGER, Declaration
from pi0_ttnn_ros.parameters.parameters import Parameters, checked_parameters


def declare_parameters(node: Node) -> None:
    """Declare every parameter on `node`."""
    for declaration in DECLARATIONS:
        value = _type(declaration) if declaration.default is None else declaration.default
        node.declare_parameter(declaration.name, value, _descriptor(declaration))


def read_parameters(node: Node) -> Parameters:
    """Return the node's parameters.

    Raises:
        ParameterError, RobotError: a required one is missing, or one does not fit another.
    """
    return checked_parameters({declaration.name: _value(node, declaration.name) for declaration in DECLARATIONS})


def _type(declaration: Declaration) -> Parameter.Type:
    return Parameter.Type[declaration.type.upper().replace(" ", "_")]


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
    return value if isinstance(value, str | int | float) else list(value)
