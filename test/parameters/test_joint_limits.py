"""Limits out of a URDF."""

from __future__ import annotations

import pytest

from pi0_ttnn_ros.parameters.joint_limits import CONTINUOUS, urdf_limits
from pi0_ttnn_ros.parameters.parameters import ParameterError

URDF = """<?xml version="1.0"?>
<robot name="arm">
  <link name="base"/>
  <joint name="shoulder" type="revolute"><limit lower="-1.5" upper="2.0" velocity="3.1" effort="10"/></joint>
  <joint name="wrist" type="continuous"><limit velocity="6.2" effort="1"/></joint>
  <joint name="finger" type="prismatic"><limit lower="0" upper="0.04" effort="1"/></joint>
  <joint name="fixed" type="fixed"/>
</robot>
"""


def test_a_urdf_gives_what_it_has():
    assert urdf_limits(URDF) == {
        "shoulder": {"position_min": -1.5, "position_max": 2.0, "max_velocity": 3.1},
        "wrist": {"position_min": -CONTINUOUS, "position_max": CONTINUOUS, "max_velocity": 6.2},
        "finger": {"position_min": 0.0, "position_max": 0.04},
    }


def test_what_is_no_urdf_is_refused():
    with pytest.raises(ParameterError, match="robot_description is no URDF"):
        urdf_limits("robot: arm")
