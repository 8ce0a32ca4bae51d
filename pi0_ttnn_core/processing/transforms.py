"""Transforms of states and actions from the robot's units to the model's and back.

`encode_state` and `encode_actions` map from the robot to the model (actions as in training), `decode_actions` back.
States are [joints], actions [..., joints]. `str` of a transform describes what it does to the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pi0_ttnn_core.processing.normalization import Normalization


class Transform(Protocol):
    """One transform in a chain. `state` is always the state before this transform, [joints]."""

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        """Return the state after this transform."""
        ...

    def encode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return the actions after this transform, the inverse of `decode_actions`."""
        ...

    def decode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return the actions before this transform, given those after it."""
        ...


@dataclass(frozen=True)
class LinearMap:
    """A linear map of each joint: model = robot * scale + offset.

    Attributes:
        scale: float32 [joints].
        offset: float32 [joints].
        label: the map in words.
    """

    scale: np.ndarray
    offset: np.ndarray
    label: str

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        """Return state * scale + offset."""
        return state * self.scale + self.offset

    def encode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return actions * scale + offset."""
        return actions * self.scale + self.offset

    def decode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return (actions - offset) / scale."""
        return (actions - self.offset) / self.scale

    def __str__(self) -> str:
        return self.label


def degrees(joint_names: Sequence[str], joints: Sequence[str]) -> LinearMap:
    """Return the transform for a model that was trained in degrees; `joints` are in rad on the robot."""
    scale = np.where(_mask(joint_names, joints), np.float32(180.0 / np.pi), np.float32(1.0)).astype(np.float32)
    return LinearMap(scale, np.zeros_like(scale), f"degrees: rad to degrees of {_in_words(joints, joint_names)}")


def joint_signs(joint_names: Sequence[str], joints: Sequence[str]) -> LinearMap:
    """Return the transform for `joints` that have the opposite sign in the model."""
    scale = np.where(_mask(joint_names, joints), np.float32(-1.0), np.float32(1.0)).astype(np.float32)
    return LinearMap(scale, np.zeros_like(scale), f"joint_signs: the sign of {_in_words(joints, joint_names)} changes")


def gripper_range(
    joint_names: Sequence[str], joints: Sequence[str], robot: Sequence[float], model: Sequence[float]
) -> LinearMap:
    """Return the transform for gripper `joints` whose (closed, open) is `robot` on the robot, `model` in the model."""
    grippers = _mask(joint_names, joints)
    slope = (model[1] - model[0]) / (robot[1] - robot[0])
    scale = np.where(grippers, slope, 1.0).astype(np.float32)
    offset = np.where(grippers, model[0] - slope * robot[0], 0.0).astype(np.float32)
    return LinearMap(
        scale,
        offset,
        f"gripper_range: {_in_words(joints, joint_names)} from {robot[0]:g} (closed) .. {robot[1]:g} (open) "
        f"to {model[0]:g} .. {model[1]:g}",
    )


@dataclass(frozen=True)
class Aloha:
    """ALOHA's joints as in openpi's base models (openpi policies/aloha_policy.py, `adapt_to_pi`).

    Two arms of six joints and a gripper, which is 0 (closed) to 1 (open) in ALOHA's linear space. Some joints change
    their sign. A gripper's state is mapped through the geometry of its crank to the angle that Trossen's encoders
    measure. An action is that angle on the scale of ALOHA's own gripper joint, so the two maps are not inverses.
    """

    signs = np.array([1, -1, -1, 1, 1, 1, 1] * 2, np.float32)
    grippers = (6, 13)

    # Opening of the follower's fingers at 0 and at 1, m.
    finger = (0.01844, 0.05800)
    # Arm and horn of the crank, from Interbotix' code, m.
    arm, horn = 0.036, 0.022
    # The encoder's range that openpi maps to 0..1, rad.
    encoder = (0.5476, 1.6296)
    # ALOHA's gripper joint, closed and open, rad.
    joint = (-0.6213, 1.4910)

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        """Return the state with the signs and the gripper angles of the base models."""
        state = state * self.signs
        state[..., self.grippers] = self.gripper_state(state[..., self.grippers])
        return state

    def encode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return actions with the signs and the gripper angles of the base models."""
        actions = actions * self.signs
        low, high = self.joint
        actions[..., self.grippers] = actions[..., self.grippers] * (high - low) + low - self.encoder[0]
        return actions

    def decode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return actions with ALOHA's signs and linear grippers."""
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
    """The model's actions are offsets from the state.

    Attributes:
        relative: bool [joints]. False where actions are absolute all the same.
    """

    relative: np.ndarray

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        """Return the state unchanged."""
        return state

    def encode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return actions minus the state."""
        return actions - np.where(self.relative, state, 0).astype(actions.dtype)

    def decode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return actions plus the state."""
        return actions + np.where(self.relative, state, 0).astype(actions.dtype)

    def __str__(self) -> str:
        absolute = [str(index) for index in np.flatnonzero(~self.relative)]
        return "relative_actions: offsets from the state" + (
            f"; absolute are actions {', '.join(absolute)}" if absolute else ""
        )


@dataclass(frozen=True)
class Normalize:
    """Normalisation by the statistics of the training data; the last transform before the model.

    Attributes:
        state: normalization of states.
        action: normalization of actions.
    """

    state: Normalization
    action: Normalization

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        """Return the normalised state."""
        return self.state.normalize(state)

    def encode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return normalised actions."""
        return self.action.normalize(actions)

    def decode_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return unnormalised actions."""
        return self.action.unnormalize(actions)

    def __str__(self) -> str:
        return f"normalize: state by {self.state}, actions by {self.action}"


def encode_state(transforms: Sequence[Transform], state: np.ndarray) -> np.ndarray:
    """Map a state through all transforms, first to last."""
    for transform in transforms:
        state = transform.encode_state(state)
    return state


def encode_actions(transforms: Sequence[Transform], actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Map the robot's actions to the model's; `state` is the robot's. The inverse of `decode_actions`."""
    for transform in transforms:
        actions, state = transform.encode_actions(actions, state), transform.encode_state(state)
    return actions


def decode_actions(transforms: Sequence[Transform], actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Map the model's actions back through all transforms, last to first; `state` is the robot's."""
    states = [state]
    for transform in transforms:
        states.append(transform.encode_state(states[-1]))
    for transform, before in zip(reversed(transforms), reversed(states[:-1]), strict=True):
        actions = transform.decode_actions(actions, before)
    return actions


def pad_vector(x: np.ndarray, size: int) -> np.ndarray:
    """Pad the last axis with zeros to `size`."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


def _mask(joint_names: Sequence[str], joints: Sequence[str]) -> np.ndarray:
    return np.array([name in joints for name in joint_names])


def _in_words(joints: Sequence[str], joint_names: Sequence[str]) -> str:
    return "all joints" if len(joints) == len(joint_names) else ", ".join(joints)
