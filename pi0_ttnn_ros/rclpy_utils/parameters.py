"""Declare and read the parameters of a ROS 2 node."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from pi0_ttnn_ros.parameters.declarations import Declaration, ParameterError
from pi0_ttnn_ros.parameters.old_form import refuse_old_form
from pi0_ttnn_ros.parameters.parameters import DECLARATIONS, SECTIONS, Parameters, all_declarations
from pi0_ttnn_ros.parameters.reading import checked_parameters, name_lists, unknown_names, unknown_text


class NodeParameters:
    """The parameters of a node.

    The sections of cameras, joints and controllers are declared as soon as their list names them, and are gone when it
    no longer does. The node has to be made with `allow_undeclared_parameters`: then it is this class that refuses a
    parameter that is not declared, and says why.
    """

    def __init__(self, node: Node) -> None:
        """Declare every parameter on `node`.

        Raises:
            ParameterError: a value from the command line or a file has the wrong type or is out of range.
        """
        self._node = node
        # rclpy has no public way to see values for parameters that are not declared.
        self._overrides = {name: _value(each) for name, each in node._parameter_overrides.items()}
        self._declarations = {declaration.name: declaration for declaration in DECLARATIONS}
        for declaration in DECLARATIONS:
            self._declare(declaration)
        node.add_on_set_parameters_callback(self._on_set)
        with contextlib.suppress(ParameterError):  # which configure reports
            self._declare_sections(self._values())

    def read(self) -> Parameters:
        """Return the values, checked against each other.

        Raises:
            ParameterError: a required value is missing, one does not fit another, or the YAML is of the former form.
            RobotError: a transform does not fit the joints.
        """
        refuse_old_form(self._overrides)
        values = self._values()
        self._declare_sections(values)
        for name in unknown_names(self._overrides, self._declarations):
            text = unknown_text(name, self._declarations)
            if name.startswith("joint_limits."):
                raise ParameterError(text)
            # Unlike a robot's file, what a node receives may be meant for several nodes.
            self._node.get_logger().warning(text)
        return checked_parameters(self._values())

    def _values(self) -> dict[str, Any]:
        """Return the values by full name, without those that are not set."""
        # An array without a default, and a limit, have no value until they are set.
        every = ((name, _value(self._node.get_parameter_or(name, Parameter(name)))) for name in self._declarations)
        return {name: value for name, value in every if value is not None}

    def _declare(self, declaration: Declaration) -> None:
        if declaration.name in self._overrides:
            declaration.check(self._overrides[declaration.name])
        unset = declaration.default in (None, [])
        value = Parameter.Type[declaration.type.upper().replace(" ", "_")] if unset else declaration.default
        self._node.declare_parameter(declaration.name, value, _descriptor(declaration))

    def _declare_sections(self, values: Mapping[str, Any]) -> None:
        """Declare the sections of these lists of names, and no others."""
        declarations = all_declarations(name_lists(values))
        previous = self._declarations
        self._declarations = {declaration.name: declaration for declaration in declarations}
        for name in previous.keys() - self._declarations.keys():
            if self._node.has_parameter(name):
                self._node.undeclare_parameter(name)
        for name, declaration in self._declarations.items():
            if not self._node.has_parameter(name):
                self._declare(declaration)

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        values = {each.name: _value(each) for each in parameters}
        try:
            if values.keys() & {each.names for each in SECTIONS}:
                self._declare_sections(self._values() | values)
            for name in values:
                if name not in self._declarations and not self._node.has_parameter(name):
                    raise ParameterError(unknown_text(name, self._declarations))
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def _descriptor(declaration: Declaration) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=declaration.description)
    if declaration.bounds is None:
        return descriptor
    low, high = declaration.bounds
    if declaration.type == "integer":
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    else:
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    return descriptor


def _value(parameter: Parameter) -> Any:
    """Return the value, None if it is not set; rclpy has arrays of several types."""
    value = parameter.value
    return value if value is None or isinstance(value, str | int | float) else list(value)
