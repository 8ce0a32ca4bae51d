"""Limits out of a URDF."""

from __future__ import annotations

import pytest

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.joint_limits import CONTINUOUS, urdf_limits


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
