"""States and actions, step by step: from the robot's units to the model's and back.

A step maps the robot's side to the model's on the way in (`encode_state`, and `encode_actions` as in training) and
back on the way out (`decode_actions`). Vectors are [joints], actions [..., joints]. What a step prints of itself is
what it does to the state on the way in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pi0_ttnn_core.processing.normalization import Normalization


class Transform(Protocol):
    """One step; `state` is the state as it comes into this step on the way in."""

    def encode_state(self, state: np.ndarray) -> np.ndarray: ...

    def encode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray: ...

    def decode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class LinearMap:
    """model = robot * scale + offset, joint by joint; `what` says it in words."""

    scale: np.ndarray
    offset: np.ndarray
    label: str

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        return state * self.scale + self.offset

    def encode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        return actions * self.scale + self.offset

    def decode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        return (actions - self.offset) / self.scale

    def __str__(self) -> str:
        return self.label


def degrees(joint_names: Sequence[str], joints: Sequence[str]) -> LinearMap:
    """Return the step for a model that was trained in degrees: `joints` are rad on the robot."""
    scale = np.where(_mask(joint_names, joints), np.float32(180.0 / np.pi), np.float32(1.0)).astype(np.float32)
    return LinearMap(scale, np.zeros_like(scale), f"degrees: rad to degrees of {_some(joints, joint_names)}")


def joint_signs(joint_names: Sequence[str], joints: Sequence[str]) -> LinearMap:
    """Return the step for `joints` that turn the other way in the model."""
    scale = np.where(_mask(joint_names, joints), np.float32(-1.0), np.float32(1.0)).astype(np.float32)
    return LinearMap(scale, np.zeros_like(scale), f"joint_signs: the sign of {_some(joints, joint_names)} changes")


def gripper_range(
    joint_names: Sequence[str], joints: Sequence[str], robot: Sequence[float], model: Sequence[float]
) -> LinearMap:
    """Return the step for gripper `joints`, whose (closed, open) are `robot` on the robot and `model` in the model."""
    grippers = _mask(joint_names, joints)
    slope = (model[1] - model[0]) / (robot[1] - robot[0])
    scale = np.where(grippers, slope, 1.0).astype(np.float32)
    offset = np.where(grippers, model[0] - slope * robot[0], 0.0).astype(np.float32)
    return LinearMap(
        scale,
        offset,
        f"gripper_range: {_some(joints, joint_names)} from {robot[0]:g} (closed) .. {robot[1]:g} (open) "
        f"to {model[0]:g} .. {model[1]:g}",
    )


@dataclass(frozen=True)
class Aloha:
    """ALOHA's joints as openpi's base models know them (openpi policies/aloha_policy.py, `adapt_to_pi`).

    Two arms of six joints and a gripper, the gripper from 0 (closed) to 1 (open) in ALOHA's linear space. Some joints
    turn the other way. A gripper's state goes through the geometry of its crank to the angle that Trossen's encoders
    give; an action is that angle, on the scale of ALOHA's own gripper joint: the two maps are not each other's inverse.
    """

    signs = np.array([1, -1, -1, 1, 1, 1, 1] * 2, np.float32)
    grippers = (6, 13)

    # m: how far the fingers of the follower's gripper are open, at 0 and at 1.
    finger = (0.01844, 0.05800)
    # m: arm and horn of the crank, from Interbotix' code.
    arm, horn = 0.036, 0.022
    # rad: the encoder's range that openpi maps to 0..1.
    encoder = (0.5476, 1.6296)
    # rad: ALOHA's gripper joint, closed and open.
    joint = (-0.6213, 1.4910)

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        state = state * self.signs
        state[..., self.grippers] = self.gripper_state(state[..., self.grippers])
        return state

    def encode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        actions = actions * self.signs
        low, high = self.joint
        actions[..., self.grippers] = actions[..., self.grippers] * (high - low) + low - self.encoder[0]
        return actions

    def decode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        actions = actions * self.signs
        low, high = self.joint
        actions[..., self.grippers] = (actions[..., self.grippers] + self.encoder[0] - low) / (high - low)
        return actions

    def gripper_state(self, opening: np.ndarray) -> np.ndarray:
        """Return the encoder's angle, 0..1, at which the gripper is open by `opening`, 0..1."""
        low, high = self.finger
        finger = opening * (high - low) + low
        sine = (self.horn**2 + finger**2 - self.arm**2) / (2 * self.horn * finger)
        low, high = self.encoder
        return (np.arcsin(np.clip(sine, -1.0, 1.0)) - low) / (high - low)

    def __str__(self) -> str:
        return "aloha: joints 2, 3 of each arm change their sign, grippers to the base model's angles (adapt_to_pi)"


@dataclass(frozen=True)
class RelativeActions:
    """The model's actions are offsets from the state where `relative`; elsewhere they are absolute."""

    relative: np.ndarray

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        return state

    def encode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        return actions - np.where(self.relative, state, 0).astype(actions.dtype)

    def decode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        return actions + np.where(self.relative, state, 0).astype(actions.dtype)

    def __str__(self) -> str:
        absolute = [str(index) for index in np.flatnonzero(~self.relative)]
        return "relative_actions: offsets from the state" + (
            f"; absolute are actions {', '.join(absolute)}" if absolute else ""
        )


@dataclass(frozen=True)
class Normalize:
    """By the statistics of the training data; the last step before the model."""

    state: Normalization
    action: Normalization

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        return self.state.normalize(state)

    def encode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        return self.action.normalize(actions)

    def decode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        return self.action.unnormalize(actions)

    def __str__(self) -> str:
        return f"normalize: state by {self.state}, actions by {self.action}"


def encode_state(steps: Sequence[Transform], state: np.ndarray) -> np.ndarray:
    """Map a state through all steps, first to last."""
    for step in steps:
        state = step.encode_state(state)
    return state


def encode_actions(steps: Sequence[Transform], actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Map the robot's actions to the model's, the inverse of `decode_actions`."""
    for step in steps:
        actions, state = step.encode_actions(actions, state), step.encode_state(state)
    return actions


def decode_actions(steps: Sequence[Transform], actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Map the model's actions back through all steps, last to first; `state` is the robot's, before any step."""
    states = [state]
    for step in steps:
        states.append(step.encode_state(states[-1]))
    for step, before in zip(reversed(steps), reversed(states[:-1]), strict=True):
        actions = step.decode_actions(actions, before)
    return actions


def pad_vector(x: np.ndarray, size: int) -> np.ndarray:
    """Pad the last axis with zeros to `size`."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


def _mask(joint_names: Sequence[str], joints: Sequence[str]) -> np.ndarray:
    return np.array([name in joints for name in joint_names])


def _some(joints: Sequence[str], joint_names: Sequence[str]) -> str:
    return "all joints" if len(joints) == len(joint_names) else ", ".join(joints)
