"""Transforms between a robot's units and a checkpoint's: closed forms, inverses, and the robot's YAML."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
from pi0_ttnn_core.policy import load_policy
from pi0_ttnn_core.processing.normalization import MeanStd, Range
from pi0_ttnn_core.processing.robot import Robot, RobotError, incompatibilities, robot_from_parameters, robot_from_yaml
from pi0_ttnn_core.processing.transforms import (
    Aloha,
    Normalize,
    RelativeActions,
    decode_actions,
    degrees,
    encode_state,
    gripper_range,
    joint_signs,
)

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
NAMES = [f"{side}_{number}" for side in ("left", "right") for number in range(7)]
MASK = np.arange(14) % 7 != 6
VECTOR = st.lists(st.floats(-3, 3, width=32), min_size=14, max_size=14).map(lambda x: np.array(x, np.float32))
STEPS = {
    "degrees": degrees(NAMES, ["left_0", "right_6"]),
    "joint_signs": joint_signs(NAMES, ["left_1", "left_2"]),
    "gripper_range": gripper_range(NAMES, ["left_6", "right_6"], (0.0, 0.044), (1.0, 0.0)),
    "aloha": Aloha(),
    "relative_actions": RelativeActions(MASK),
    "normalize": Normalize(
        MeanStd(np.full(14, 0.3, np.float32), np.full(14, 0.5, np.float32), 1e-6, 1e-6),
        Range(np.full(14, -1.5, np.float32), np.full(14, 3.0, np.float32)),
    ),
}


@pytest.mark.parametrize("name", STEPS)
@given(actions=VECTOR, state=VECTOR)
def test_transforms_have_an_inverse(name, actions, state):
    """Encoding actions and decoding them gives the same actions, for each transform."""
    step = STEPS[name]
    there = step.encode_actions(actions.copy(), state)
    np.testing.assert_allclose(step.decode_actions(there, state), actions, atol=2e-5)


@given(actions=VECTOR, state=VECTOR)
def test_pipeline_has_an_inverse(actions, state):
    """Encoding and decoding through the whole pipeline gives the same actions."""
    steps, model, before = list(STEPS.values()), actions, state
    for step in steps:
        model, before = step.encode_actions(model, before), step.encode_state(before)
    np.testing.assert_allclose(before, encode_state(steps, state), rtol=1e-6)
    np.testing.assert_allclose(decode_actions(steps, model, state), actions, atol=5e-4)


@given(st.floats(0.0, 1.0))
def test_aloha_gripper_geometry(opening):
    """The crank's geometry from its drawing: the horn turns, the arm of fixed length moves the finger."""
    angle = Aloha().gripper_state(np.array(opening)) * (1.6296 - 0.5476) + 0.5476
    finger = 0.022 * math.sin(angle) + math.sqrt(0.036**2 - (0.022 * math.cos(angle)) ** 2)
    assert (finger - 0.01844) / (0.05800 - 0.01844) == pytest.approx(opening, abs=1e-6)


def test_aloha_transforms_match_openpi():
    """Numbers worked out by hand from openpi's policies/aloha_policy.py."""
    state = Aloha().encode_state(np.arange(14, dtype=np.float32) / 13)
    expected = np.arange(14) / 13 * np.array([1, -1, -1, 1, 1, 1, 1] * 2)
    np.testing.assert_allclose(state[MASK], expected[MASK], rtol=1e-6)
    actions = Aloha().decode_actions(np.zeros((2, 14), np.float32), state)
    np.testing.assert_allclose(actions[:, [6, 13]], (0.5476 + 0.6213) / (1.4910 + 0.6213), rtol=1e-6)
    assert not actions[:, MASK].any()


def test_units_and_grippers():
    """Degrees, signs and gripper ranges against numbers worked out by hand."""
    state = np.full(14, 0.022, np.float32)
    assert degrees(NAMES, ["left_0"]).encode_state(state)[[0, 1]] == pytest.approx([math.degrees(0.022), 0.022])
    assert joint_signs(NAMES, ["left_1"]).encode_state(state)[[0, 1]] == pytest.approx([0.022, -0.022])
    # Half open; the model's range is reversed, from 1 (closed) to 0 (open).
    assert STEPS["gripper_range"].encode_state(state)[[6, 5]] == pytest.approx([0.5, 0.022])


def test_relative_actions_use_encoded_state():
    """Relative actions are added to the state in the model's units, not in the robot's."""
    state = np.linspace(0.1, 1.4, 14).astype(np.float32)
    signs = joint_signs(NAMES, ["left_1"])
    actions = decode_actions([signs, RelativeActions(MASK)], np.zeros((3, 14), np.float32), state)
    np.testing.assert_allclose(actions[:, MASK], np.broadcast_to(state[MASK], (3, 12)), rtol=1e-6)
    assert not actions[:, ~MASK].any()


YAML = """
/**/pi0_policy:
  ros__parameters:
    cameras: [base_0_rgb, left_wrist_0_rgb]
    joint_names: [a, b, c]
    transforms: [degrees, gripper_range, relative_actions]
    degrees:
      joints: [a, b]
    gripper_range: {joints: [c], robot: [0.0, 0.04], model: [0.0, 1.0]}
    relative_actions.joints: [a, b]
    conventions: openpi
    normalization_key: trossen
"""


def test_yaml_selects_transforms(tmp_path):
    """A robot's YAML selects the transforms, and each describes itself."""
    (tmp_path / "robot.yaml").write_text(YAML)
    robot = robot_from_yaml(tmp_path / "robot.yaml")
    assert robot.joint_names == ("a", "b", "c") and robot.conventions == "openpi"
    assert robot.normalization_key == "trossen" and robot.tokenizer is None
    assert [str(step) for step in robot.transforms] == [
        "degrees: rad to degrees of a, b",
        "gripper_range: c from 0 (closed) .. 0.04 (open) to 0 .. 1",
        "relative_actions: offsets from the state; absolute are actions 2",
    ]


@pytest.mark.parametrize(
    ("old", "new", "culprit"),
    [
        ("[degrees,", "[turn,", r"transforms names \['turn'\]"),
        ("[degrees,", "[degrees, degrees,", r"\['degrees'\] more than once"),
        ("joints: [a, b]", "joints: [a, z]", r"names \['z'\], which are not in joint_names"),
        ("      joints: [a, b]", "      other: 1", "degrees.joints is not set"),
        ("[0.0, 0.04]", "[0.04, 0.04]", "gripper_range.robot must be two different numbers"),
        ("[0.0, 0.04]", "[0.04]", "gripper_range.robot must be two different numbers"),
        ("[degrees,", "[aloha,", "two arms.*3 joints instead of 14"),
        ("openpi", "closedpi", "conventions is 'closedpi'"),
        ("ros__parameters", "parameters", "not a ROS parameter file"),
    ],
)
def test_invalid_robot_yaml(tmp_path, old, new, culprit):
    """An error in a robot's YAML is explained by name."""
    (tmp_path / "robot.yaml").write_text(YAML.replace(old, new, 1))
    with pytest.raises(RobotError, match=culprit):
        robot_from_yaml(tmp_path / "robot.yaml")


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"joint_names": NAMES[:13]}, "joint_names has 13 joints, the checkpoint's state has 14 values"),
        ({"cameras": ["base_0_rgb", "chest"]}, r"cameras names \['chest'\]; the checkpoint was trained with"),
        ({"cameras": []}, "cameras is empty"),
        ({"normalization_key": "trossen"}, "LeRobot checkpoints have no keys"),
    ],
)
def test_robot_mismatch_before_loading_weights(tiny_checkpoint, changes, culprit):
    """A robot that does not match the checkpoint is refused before the weights are read."""
    robot = robot_from_parameters({"cameras": list(CAMERAS), "joint_names": NAMES} | changes)
    # An unknown backend would be refused when the weights are loaded; the robot is checked first.
    with pytest.raises(ValueError, match=culprit):
        load_policy(tiny_checkpoint, "abacus", robot)


def test_relative_actions_are_not_applied_twice(tiny_checkpoint):
    """A robot that makes actions relative is incompatible with a checkpoint that does so already."""
    metadata = replace(open_checkpoint(tiny_checkpoint).metadata, relative_joints=(True,) * 14)
    robot = Robot(CAMERAS, tuple(NAMES), transforms=(RelativeActions(MASK),))
    assert incompatibilities(robot, metadata) == [
        "transforms names relative_actions, but the checkpoint's own pipeline already makes actions relative"
    ]


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "config").glob("*.yaml")), ids=lambda f: f.name)
def test_shipped_robots(file, tiny_checkpoint):
    """Each robot in config/ fits a checkpoint with as many joints."""
    robot = robot_from_yaml(file)
    joints = len(robot.joint_names)  # as many as a checkpoint that was trained on this robot
    metadata = replace(open_checkpoint(tiny_checkpoint).metadata, state_size=joints, action_size=joints)
    assert not incompatibilities(robot, metadata)
