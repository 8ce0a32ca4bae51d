"""Forward kinematics: positions of links from a URDF and joint positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from urdf_parser_py import urdf as parsed

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.urdf import parse_urdf

ROTATING = ("revolute", "continuous")


class KinematicsError(ValueError):
    """The URDF cannot be used, or does not have the link asked for."""


@dataclass(frozen=True)
class _Joint:
    """One joint of a URDF. Its position is factor * (position of its leader) + offset.

    Attributes:
        kind: type of the joint, such as "revolute".
        origin: float64 [4, 4], pose of the joint in its parent link's frame.
        axis: float64 [3], unit vector that the joint moves along or about.
        leader: name of the joint that it mimics; its own name if it mimics none.
        factor: multiplier of the leader's position.
        offset: rad or m.
    """

    kind: str
    origin: np.ndarray
    axis: np.ndarray
    leader: str
    factor: float
    offset: float


class Kinematics:
    """Forward kinematics of a URDF. Joints whose positions are not given are at zero."""

    def __init__(self, urdf: str, joint_names: Sequence[str]) -> None:
        """Parse a URDF.

        Args:
            urdf: the URDF's text.
            joint_names: joints in the order in which their positions will be given.

        Raises:
            KinematicsError: the text is not a valid URDF, or its links are not a tree.
        """
        try:
            self._robot = parse_urdf(urdf)
        except ParameterError as error:
            raise KinematicsError(str(error)) from error
        self._columns = {name: column for column, name in enumerate(joint_names)}
        self._joints = {joint.name: _joint(joint) for joint in self._robot.joints}
        undeclared = sorted({joint.parent for joint in self._robot.joints} - self._robot.link_map.keys())
        if undeclared:
            raise KinematicsError(f"the robot description has joints on links that it does not declare: {undeclared}")
        roots = [link.name for link in self._robot.links if link.name not in self._robot.parent_map]
        if len(roots) != 1:
            raise KinematicsError(f"the robot description has the roots {roots}, expected one")
        self.root = roots[0]

    def ends(self) -> list[str]:
        """Return the child link of each last joint: moved by a given joint, without a given joint after it."""
        given = [joint for joint in self._robot.joints if joint.name in self._columns]
        ancestors = {link for joint in given for link in self._robot.get_chain(self.root, joint.parent, joints=False)}
        return sorted({joint.child for joint in given} - ancestors)

    def positions(self, link: str, joints: np.ndarray) -> np.ndarray:
        """Return the position of the origin of `link` in the root's frame, float64 [n, 3], m.

        Args:
            link: name of the link.
            joints: [n, joints], rad or m.

        Raises:
            KinematicsError: the URDF does not have this link.
        """
        if link not in self._robot.link_map:
            raise KinematicsError(f"the robot description has no link {link!r}; it has {sorted(self._robot.link_map)}")
        pose = np.tile(np.eye(4), (len(joints), 1, 1))
        for name in self._robot.get_chain(self.root, link, links=False):
            joint = self._joints[name]
            column = self._columns.get(joint.leader)
            values = np.zeros(len(joints)) if column is None else joints[:, column].astype(np.float64)
            pose = pose @ joint.origin @ _motion(joint, joint.factor * values + joint.offset)
        return pose[:, :3, 3]


def _joint(joint: parsed.Joint) -> _Joint:
    pose = joint.origin or parsed.Pose()
    origin = np.eye(4)
    origin[:3, :3] = _rotation_from_rpy(np.array(pose.rpy or (0.0, 0.0, 0.0)))
    origin[:3, 3] = pose.xyz or (0.0, 0.0, 0.0)
    axis = np.array(joint.axis or (1.0, 0.0, 0.0))
    mimic = joint.mimic or parsed.JointMimic(joint.name)
    return _Joint(
        kind=joint.type,
        origin=origin,
        axis=axis / max(float(np.linalg.norm(axis)), 1e-12),
        leader=mimic.joint,
        factor=1.0 if mimic.multiplier is None else mimic.multiplier,
        offset=mimic.offset or 0.0,
    )


def _motion(joint: _Joint, values: np.ndarray) -> np.ndarray:
    """Return the transform of a joint at each position, float64 [n, 4, 4].

    Args:
        joint: the joint.
        values: [n], rad or m.
    """
    motion = np.tile(np.eye(4), (len(values), 1, 1))
    if joint.kind in ROTATING:
        motion[:, :3, :3] = _rotation_about(joint.axis, values)
    elif joint.kind == "prismatic":
        motion[:, :3, 3] = values[:, None] * joint.axis
    return motion


def _rotation_about(axis: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return the rotations about the unit vector `axis` by `angles` [n], rad, by Rodrigues' formula: [n, 3, 3]."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sin, cos = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    return np.eye(3) + sin * cross + (1 - cos) * (cross @ cross)


def _rotation_from_rpy(rpy: np.ndarray) -> np.ndarray:
    """Return the rotation about the fixed axes x, then y, then z, as URDF defines `rpy`: [3, 3]."""
    about_x, about_y, about_z = (
        _rotation_about(axis, angle[None])[0] for axis, angle in zip(np.eye(3), rpy, strict=True)
    )
    return about_z @ about_y @ about_x
