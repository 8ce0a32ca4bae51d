"""Limits out of a URDF."""

from __future__ import annotations

from typing import Any

import pytest

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.joint_limits import CONTINUOUS, joint_limits, urdf_limits
from pi0_ttnn_ros.parameters.reading import checked_parameters


def joint(name: str, kind: str, limit: str) -> str:
    ends = f'<parent link="base"/><child link="{name}"/>'
    return f'<link name="{name}"/><joint name="{name}" type="{kind}">{ends}{limit}</joint>'


def robot(*joints: str) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?><robot name="arm"><link name="base"/>{"".join(joints)}</robot>'


URDF = robot(
    joint("shoulder", "revolute", '<limit lower="-1.5" upper="2.0" velocity="3.1" effort="10"/>'),
    joint("wrist", "continuous", '<limit velocity="6.2" effort="1"/>'),
    joint("finger", "prismatic", '<limit upper="0.04" velocity="inf" effort="1"/>'),
    joint("fixed", "fixed", ""),
    '<ros2_control name="arm" type="system"/>',
)


def test_limits_of_a_urdf(capfd):
    """A URDF gives the limits that it has."""
    assert urdf_limits(URDF) == {
        "shoulder": {"min_position": -1.5, "max_position": 2.0, "max_velocity": 3.1},
        "wrist": {"min_position": -CONTINUOUS, "max_position": CONTINUOUS, "max_velocity": 6.2},
        "finger": {"min_position": 0.0, "max_position": 0.04},
    }
    assert not capfd.readouterr().err


@pytest.mark.parametrize(
    ("urdf", "reason"),
    [
        ("robot: arm", "syntax error"),
        (robot(joint("finger", "prismatic", '<limit lower="0" upper="0.04" effort="1"/>')), "finger.*velocity"),
        (robot(joint("finger", "sliding", "")), "sliding"),
    ],
)
def test_what_is_no_urdf_is_refused(urdf, reason):
    with pytest.raises(ParameterError, match=f"robot_description is not a valid URDF: .*{reason}"):
        urdf_limits(urdf)


def limits_with(allow: bool = False, **changes: float) -> Any:
    """Return the limits of the shoulder, read with the URDF; within the URDF's but for changes."""
    section = {"min_position": -1.5, "max_position": 2.0, "max_velocity": 3.1, "max_acceleration": 1.0} | changes
    given = {
        "checkpoint": "anywhere",
        "cameras": ["base"],
        "base.topic": "image",
        "joint_names": ["shoulder"],
        "allow_wider_limits": allow,
        **{f"joint_limits.shoulder.{name}": value for name, value in section.items()},
    }
    return joint_limits(checked_parameters(given), lambda missing: URDF)


@pytest.mark.parametrize(
    ("name", "value", "urdf", "attribute"),
    [
        ("min_position", -1.51, "-1.5", "position_min"),
        ("max_position", 2.01, "2", "position_max"),
        ("max_velocity", 3.2, "3.1", "max_velocity"),
    ],
)
def test_wider_limits_are_refused(name, value, urdf, attribute):
    """The error names the joint, both values and the remedy."""
    told = f"joint_limits.shoulder.{name} is {value:g}, wider than the {urdf} of the URDF.*allow_wider_limits"
    with pytest.raises(ParameterError, match=told):
        limits_with(**{name: value})
    assert getattr(limits_with(allow=True, **{name: value}), attribute) == [value]


def test_narrower_and_rounded_limits():
    """Limits within the URDF's are taken as they are, those that differ by rounding too."""
    assert limits_with(min_position=-1.0, max_velocity=1.0).position_min == [-1.0]
    assert limits_with(max_position=2.00005).position_max == [2.00005]


def test_joint_that_is_not_in_the_urdf():
    """A joint that the URDF does not describe has no other limits than its own."""
    given = {
        "checkpoint": "anywhere",
        "cameras": ["base"],
        "base.topic": "image",
        "joint_names": ["jaw"],
        "joint_limits.jaw.min_position": 0.0,
        "joint_limits.jaw.max_position": 1.0,
        "joint_limits.jaw.max_velocity": 9.0,
        "joint_limits.jaw.max_acceleration": 9.0,
    }
    assert joint_limits(checked_parameters(given), lambda missing: URDF).max_velocity == [9.0]
