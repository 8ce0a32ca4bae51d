"""Parse the robot's URDF."""

from __future__ import annotations

from urdf_parser_py import xml_reflection
from urdf_parser_py.urdf import URDF
from urdf_parser_py.xml_reflection import core

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.topics import ROBOT_DESCRIPTION

# The parser would report each tag that is not part of URDF, such as <ros2_control>, on stderr.
for module in (xml_reflection, core):
    module.on_error = lambda message: None


def parse_urdf(text: str) -> URDF:
    """Return the robot that a URDF describes; tags that are not part of URDF are ignored.

    Raises:
        ParameterError: the text is not a valid URDF.
    """
    try:
        return URDF.from_xml_string(text.encode())  # as bytes: a str must not declare an encoding
    except Exception as error:  # for much that is invalid the parser raises a plain Exception
        reason = " ".join(str(error).split())
        raise ParameterError(f"{ROBOT_DESCRIPTION} is not a valid URDF: {reason}") from error
