"""The former YAML, with arrays in the order of joints and cameras: refused, with the same values by name."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.parameters import RESERVED

LIMITS = {
    "position_min": "min_position",
    "position_max": "max_position",
    "max_velocity": "max_velocity",
    "max_acceleration": "max_acceleration",
}
OLD_NAMES = ("camera_topics", "controller_topics", "controller_types", "controller_of_joint", *LIMITS)


def refuse_old_form(given: Mapping[str, Any]) -> None:
    """Check that no parameter of the former YAML is given, by full name.

    Raises:
        ParameterError: one is; the message holds the YAML to write instead.
    """
    old = [name for name in OLD_NAMES if name in given]
    if old:
        content = {**_cameras(given), **_controllers(given), **_joint_limits(given)}
        block = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)
        raise ParameterError(
            f"{', '.join(old)}: cameras, controllers and joint limits are written by name. Instead of these, write\n\n"
            f"{textwrap.indent(block, '    ')}"
        )


def _cameras(given: Mapping[str, Any]) -> dict[str, Any]:
    topics = _array(given, "camera_topics")
    sections = {camera: {"topic": topic} for camera, topic in zip(_array(given, "cameras"), topics, strict=False)}
    return {"cameras": list(sections), **sections} if topics else {}


def _controllers(given: Mapping[str, Any]) -> dict[str, Any]:
    if not any(name.startswith("controller_") for name in OLD_NAMES if name in given):
        return {}
    topics = _array(given, "controller_topics") or ["joint_trajectory_controller/joint_trajectory"]
    types = _array(given, "controller_types") or ["joint_trajectory"]
    joints = _array(given, "joint_names")
    of_joint = _array(given, "controller_of_joint") or [0] * len(joints)
    sections: dict[str, Any] = {}
    for index, (topic, kind) in enumerate(zip(topics, types, strict=False)):
        name = topic.strip("/").split("/")[-2:][0]
        own = [joint for joint, number in zip(joints, of_joint, strict=False) if number == index]
        taken = name in sections or name in RESERVED or name in _array(given, "cameras")
        sections[f"{name}_{index}" if taken else name] = {"type": kind, "topic": topic, "joints": own}
    return {"controllers": list(sections), **sections}


def _joint_limits(given: Mapping[str, Any]) -> dict[str, Any]:
    limits: dict[str, dict[str, Any]] = {}
    for old, new in LIMITS.items():
        for joint, value in zip(_array(given, "joint_names"), _array(given, old), strict=False):
            limits.setdefault(joint, {})[new] = value
    return {"joint_limits": limits} if limits else {}


def _array(given: Mapping[str, Any], name: str) -> list[Any]:
    value = given.get(name)
    return value if isinstance(value, list) else []
