"""Where links are: against MuJoCo's reading of the same URDF, and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ttnn_ros.visualization.kinematics import Kinematics, KinematicsError

KINDS = ("revolute", "fixed", "prismatic", "continuous", "revolute")


def joint(name: str, kind: str, parent: str, child: str, inside: str = "") -> str:
    limit = '<limit lower="-9" upper="9" effort="1" velocity="1"/>'
    return f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>{limit}{inside}</joint>'


def robot(links: list[str], joints: list[str]) -> str:
    inertial = '<inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial>'
    bodies = "".join(f'<link name="{link}">{inertial}</link>' for link in links)
    options = '<mujoco><compiler fusestatic="false"/></mujoco>'
    return f'<robot name="robot">{options}{bodies}{"".join(joints)}</robot>'


def test_kinematics_match_mujoco():
    """Chains of joints of each kind end where MuJoCo puts them."""
    mujoco = pytest.importorskip("mujoco", reason="MuJoCo is not installed")
    random = np.random.default_rng(0)
    joints = []
    for number, kind in enumerate(KINDS):
        xyz, rpy, axis = (" ".join(map(str, random.normal(size=3))) for _ in range(3))
        inside = f'<origin xyz="{xyz}" rpy="{rpy}"/><axis xyz="{axis}"/>'
        joints.append(joint(f"joint_{number}", kind, f"link_{number}", f"link_{number + 1}", inside))
    urdf = robot([f"link_{number}" for number in range(len(KINDS) + 1)], joints)
    names = [f"joint_{number}" for number, kind in enumerate(KINDS) if kind != "fixed"]
    model = mujoco.MjModel.from_xml_string(urdf)
    data = mujoco.MjData(model)
    values = random.uniform(-2, 2, (4, len(names)))
    places = Kinematics(urdf, names).positions("link_5", values)
    for row, place in zip(values, places, strict=True):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(place, data.body("link_5").xpos, atol=1e-12)


def test_mimic_joint():
    """A joint that mimics another moves with it."""
    right = '<axis xyz="0 1 0"/><mimic joint="left" multiplier="-2" offset="0.1"/>'
    joints = [joint("left", "prismatic", "hand", "thumb", '<axis xyz="0 1 0"/>')]
    joints.append(joint("right", "prismatic", "hand", "finger", right))
    kinematics = Kinematics(robot(["hand", "thumb", "finger"], joints), ["left"])
    np.testing.assert_allclose(kinematics.positions("finger", np.array([[0.0], [0.3]])), [[0, 0.1, 0], [0, -0.5, 0]])


def test_end_links():
    """The ends are the links behind the last given joints."""
    joints = [joint("shoulder", "revolute", "base", "upper"), joint("elbow", "revolute", "upper", "lower")]
    joints += [joint("tool", "fixed", "lower", "tool"), joint("head", "revolute", "base", "head")]
    joints += [joint("neck", "revolute", "head", "camera")]
    urdf = robot(["base", "upper", "lower", "tool", "head", "camera"], joints)
    assert Kinematics(urdf, ["shoulder", "elbow", "head"]).ends() == ["head", "lower"]
    assert Kinematics(urdf, ["shoulder"]).ends() == ["upper"]


@pytest.mark.parametrize(
    ("urdf", "culprit"),
    [
        ("<robot", "not a valid URDF"),
        (robot(["a", "b"], []), r"roots \['a', 'b'\]"),
        ("<robot name='x'/>", r"roots \[\]"),
        (robot(["a", "c"], [joint("knee", "revolute", "b", "c")]), r"does not declare: \['b'\]"),
    ],
)
def test_what_is_no_robot_is_refused(urdf, culprit):
    with pytest.raises(KinematicsError, match=culprit):
        Kinematics(urdf, [])


def test_an_unknown_link_is_named():
    with pytest.raises(KinematicsError, match="no link 'tail'; it has"):
        Kinematics(robot(["a"], []), []).positions("tail", np.zeros((1, 0)))
