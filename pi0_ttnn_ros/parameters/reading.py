"""From values by name, as a YAML file or a node has them, to checked parameters."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from pi0_ttnn_core.processing.robot import robot_from_parameters, yaml_parameters
from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.old_form import refuse_old_form
from pi0_ttnn_ros.parameters.parameters import (
    CONTROLLER_TOPICS,
    DECLARATIONS,
    SECTIONS,
    ControllerParameters,
    JointLimitParameters,
    Parameters,
    all_declarations,
    check_names,
)

# What a parameter file may contain besides the node's parameters: those of rclpy, and the section of replay.
OTHERS = ("use_sim_time", "start_type_description_service", "qos_overrides.", "replay.")
REQUIRED = ("checkpoint", "cameras", "joint_names", "controllers")


def parameters_from_yaml(file: Path, overrides: Mapping[str, Any]) -> Parameters:
    """Return the parameters of a ROS parameter file as the node would read them; `overrides` replace the file's.

    Raises:
        ParameterError: a value has the wrong type or is out of range, a required one is missing, one does not fit
            another, or a name is unknown.
        RobotError: the file is not a parameter file of one node, or a transform does not fit the joints.
        OSError: the file cannot be read.
    """
    given = {**yaml_parameters(file), **overrides}
    try:
        refuse_old_form(given)
        known = [declaration.name for declaration in all_declarations(name_lists(given))]
        for name in unknown_names(given, known):
            raise ParameterError(unknown_text(name, known))
        return checked_parameters(given)
    except ParameterError as error:
        raise ParameterError(f"{file}: {error}") from error


def checked_parameters(given: Mapping[str, Any]) -> Parameters:
    """Return the parameters with these values, by full name. Those that are not given have their defaults.

    Raises:
        ParameterError: a value has the wrong type or is out of range, a required one is missing, or one does not fit
            another.
        RobotError: a transform does not fit the joints.
    """
    names = name_lists(given)
    values = {declaration.name: deepcopy(declaration.default) for declaration in all_declarations(names)}
    for declaration in all_declarations(names):
        if declaration.name in given:
            declaration.check(given[declaration.name])
            values[declaration.name] = given[declaration.name]
    for name in REQUIRED:
        if not values[name]:
            raise ParameterError(_not_set(name))
    fields = {declaration.attribute: values[declaration.name] for declaration in DECLARATIONS}
    for each in SECTIONS:
        fields[each.attribute] = {name: each.section(name, values) for name in names[each.names]}
    fields["controllers"] = _complete_controllers(fields["controllers"], fields["joint_names"])
    parameters = Parameters(robot=robot_from_parameters(values), **fields)
    _check_topics({name: camera.topic for name, camera in parameters.cameras.items()})
    _check_topics({name: controller.topic for name, controller in parameters.controllers.items()})
    _check_controllers(parameters.controllers, parameters.joint_names)
    _check_limits(parameters.joint_limits)
    return parameters


def name_lists(given: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the lists of names that have sections, by parameter.

    Raises:
        ParameterError: one of them is not a list of strings, or a section would mix with another parameter.
    """
    lists = {}
    for declaration in DECLARATIONS:
        if declaration.name in {each.names for each in SECTIONS}:
            lists[declaration.name] = given.get(declaration.name, declaration.default)
            declaration.check(lists[declaration.name])
    check_names(lists)
    return lists


def unknown_names(given: Iterable[str], known: Collection[str]) -> list[str]:
    """Return the names in `given` that are neither `known` nor parameters of rclpy or replay."""
    return [name for name in given if name not in known and not name.startswith(OTHERS)]


def unknown_text(name: str, known: Iterable[str]) -> str:
    """Return the error for a name that is not among the `known` ones."""
    section, _, option = name.rpartition(".")
    lists = [
        each.names
        for each in SECTIONS
        if section.startswith(each.prefix) and option in {of_section.attribute for of_section in each.declarations("")}
    ]
    if lists:
        return f"{name} is not a parameter: {' or '.join(lists)} would have to name {section.rpartition('.')[2]!r}"
    close = difflib.get_close_matches(name, known, 1)
    return f"{name} is not a parameter" + (f": did you mean {close[0]}?" if close else "")


def _complete_controllers(
    controllers: dict[str, ControllerParameters], joint_names: list[str]
) -> dict[str, ControllerParameters]:
    """Return the controllers with defaults in place of empty topics and joints."""
    return {
        name: replace(
            controller,
            topic=controller.topic or f"{name}/{CONTROLLER_TOPICS[controller.type]}",
            joints=controller.joints or (joint_names if len(controllers) == 1 else []),
        )
        for name, controller in controllers.items()
    }


def _check_topics(topics: Mapping[str, str]) -> None:
    for name, topic in topics.items():
        if not topic:
            raise ParameterError(_not_set(f"{name}.topic"))
        same = [other for other in topics if topics[other] == topic]
        if len(same) > 1:
            raise ParameterError(f"{same} have the same topic {topic!r}")


def _check_controllers(controllers: Mapping[str, ControllerParameters], joint_names: list[str]) -> None:
    """Check that every joint has exactly one controller."""
    for name, controller in controllers.items():
        if not controller.joints:
            raise ParameterError(
                f"parameter {name}.joints is not set: with several controllers, each has to name its joints"
            )
        unknown = [joint for joint in controller.joints if joint not in joint_names]
        if unknown:
            raise ParameterError(f"{name}.joints names {unknown}, which are not in joint_names")
    count = Counter(joint for controller in controllers.values() for joint in controller.joints)
    without = [joint for joint in joint_names if not count[joint]]
    if without:
        raise ParameterError(f"joints {without} have no controller: add them to the joints of one")
    several = [joint for joint in joint_names if count[joint] > 1]
    if several:
        raise ParameterError(
            f"joints {several} are named more than once in {[f'{name}.joints' for name in controllers]}"
        )


def _check_limits(joint_limits: Mapping[str, JointLimitParameters]) -> None:
    for joint, limits in joint_limits.items():
        if limits.max_acceleration is None:
            raise ParameterError(_not_set(f"joint_limits.{joint}.max_acceleration"))


def _not_set(name: str) -> str:
    return f"parameter {name} is not set: set it in the robot's YAML, or with -p {name}:=..."
