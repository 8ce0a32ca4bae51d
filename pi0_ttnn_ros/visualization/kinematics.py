"""Where links are, by a URDF and the joints' positions. Knows nothing of ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

TURNING = ("revolute", "continuous")


class KinematicsError(ValueError):
    """A URDF that cannot be used, or a link that it has not."""


@dataclass(frozen=True)
class _Joint:
    """One joint of a URDF: `origin` [4, 4] from the parent link to the joint, which moves along or about `axis` [3].

    leader: the joint whose position counts, itself or the one that it mimics: position = factor * leader's + offset
    """

    name: str
    kind: str
    parent: str
    origin: np.ndarray
    axis: np.ndarray
    leader: str
    factor: float
    offset: float


class Kinematics:
    """The tree of a URDF. Joints that are not given are at zero."""

    def __init__(self, urdf: str, joint_names: Sequence[str]) -> None:
        """Take the URDF, and the joints in the order in which positions will be given.

        Raises:
            KinematicsError: it is no URDF, or has no single root.
        """
        try:
            robot = ElementTree.fromstring(urdf)
        except ElementTree.ParseError as error:
            raise KinematicsError(f"the robot description is no URDF: {error}") from error
        self._columns = {name: column for column, name in enumerate(joint_names)}
        self._above = {_link(joint, "child"): _joint(joint) for joint in robot.findall("joint")}
        roots = [name for link in robot.findall("link") if (name := link.get("name", "")) not in self._above]
        if len(roots) != 1:
            raise KinematicsError(f"the robot description has the roots {roots}, and should have one")
        self.root = roots[0]

    def ends(self) -> list[str]:
        """Return the links behind each last joint: those that the given joints move, and that carry no such joint."""
        moved = {link for link, joint in self._above.items() if joint.name in self._columns}
        carrying = {above for link in moved for above in self._links_to(self._above[link].parent)}
        return sorted(moved - carrying)

    def positions(self, link: str, joints: np.ndarray) -> np.ndarray:
        """Return where the origin of `link` is in the root's frame, float64 [n, 3] in m, for `joints` [n, joints].

        Raises:
            KinematicsError: there is no such link.
        """
        if link != self.root and link not in self._above:
            raise KinematicsError(f"the robot description has no link {link!r}; it has {sorted(self._above)}")
        pose = np.tile(np.eye(4), (len(joints), 1, 1))
        for name in self._links_to(link)[1:]:
            joint = self._above[name]
            column = self._columns.get(joint.leader)
            values = np.zeros(len(joints)) if column is None else joints[:, column].astype(np.float64)
            pose = pose @ joint.origin @ _motion(joint, joint.factor * values + joint.offset)
        return pose[:, :3, 3]

    def _links_to(self, link: str) -> list[str]:
        """Return the links from the root to `link`, both included."""
        links = [link]
        while links[0] in self._above:
            links.insert(0, self._above[links[0]].parent)
        return links


def _link(joint: ElementTree.Element, end: str) -> str:
    element = joint.find(end)
    return "" if element is None else element.get("link", "")


def _joint(joint: ElementTree.Element) -> _Joint:
    def attribute(tag: str, key: str, default: str) -> str:
        element = joint.find(tag)
        return default if element is None else element.get(key, default)

    def vector(tag: str, key: str, default: str) -> np.ndarray:
        return np.array(attribute(tag, key, default).split(), np.float64)

    origin = np.eye(4)
    origin[:3, :3] = _rotation_from_rpy(vector("origin", "rpy", "0 0 0"))
    origin[:3, 3] = vector("origin", "xyz", "0 0 0")
    axis = vector("axis", "xyz", "1 0 0")
    name = joint.get("name", "")
    return _Joint(
        name,
        joint.get("type", "fixed"),
        _link(joint, "parent"),
        origin,
        axis / max(float(np.linalg.norm(axis)), 1e-12),
        attribute("mimic", "joint", name),
        float(attribute("mimic", "multiplier", "1")),
        float(attribute("mimic", "offset", "0")),
    )


def _motion(joint: _Joint, values: np.ndarray) -> np.ndarray:
    """Return what the joint does at `values` [n], rad or m: [n, 4, 4]."""
    motion = np.tile(np.eye(4), (len(values), 1, 1))
    if joint.kind in TURNING:
        motion[:, :3, :3] = _rotation_about(joint.axis, values)
    elif joint.kind == "prismatic":
        motion[:, :3, 3] = values[:, None] * joint.axis
    return motion


def _rotation_about(axis: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return the rotations about the unit vector `axis` by `angles` [n], by Rodrigues' formula: [n, 3, 3]."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sin, cos = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    return np.eye(3) + sin * cross + (1 - cos) * (cross @ cross)


def _rotation_from_rpy(rpy: np.ndarray) -> np.ndarray:
    """Return the rotation about the fixed axes x, then y, then z, as a URDF means it: [3, 3]."""
    about_x, about_y, about_z = (
        _rotation_about(axis, angle[None])[0] for axis, angle in zip(np.eye(3), rpy, strict=True)
    )
    return about_z @ about_y @ about_x
