"""Policy: from an observation in the robot's units to actions in the robot's units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pi0_ttnn_core.backend import BackendError
from pi0_ttnn_core.checkpoints.random_checkpoint import REST_POSE, SPREAD
from pi0_ttnn_core.policy import load_policy
from pi0_ttnn_core.policy_io import Observation, ObservationError


@pytest.fixture(scope="module")
def policy(tiny_checkpoint):
    return load_policy(tiny_checkpoint, "torch")


@pytest.fixture
def observation():
    random = np.random.default_rng(0)
    images = {
        name: random.integers(0, 256, (48, 64, 3), np.uint8)
        for name in ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
    }
    return Observation(images, np.array(2 * REST_POSE, np.float32), "fold the towel", stamp_ns=10**18)


def test_actions_are_in_robot_units(policy, observation):
    """The policy returns the model's actions, unnormalized and cut to the robot's joints."""
    inputs = policy.model_inputs(observation)
    tensors = {name: torch.from_numpy(array) for name, array in vars(inputs).items()}
    normalized = policy.backend.model.sample_actions(**tensors, num_steps=10)[0, :, :14].numpy()
    chunk = policy.infer(observation)
    assert chunk.actions.shape == (50, 14)
    assert (chunk.stamp_ns, chunk.instruction) == (10**18, "fold the towel")
    np.testing.assert_allclose(chunk.actions, normalized * (2 * SPREAD) + (2 * REST_POSE), atol=1e-5)


def test_model_inputs_have_static_shapes(policy, observation):
    """The model's inputs have the same shapes for each observation, in the model's units."""
    inputs = policy.model_inputs(observation)
    assert inputs.images.shape == (1, 3, 3, 224, 224)
    assert inputs.tokens.shape == inputs.token_mask.shape == (1, 48)
    np.testing.assert_allclose(inputs.state, 0.0, atol=1e-6)  # the mean pose, padded with zeros
    assert inputs.token_mask.sum() == len("<") + len("fold the towel\n")  # <bos>, then a token a byte


def test_a_missing_camera_is_masked(policy, observation):
    del observation.images["left_wrist_0_rgb"]
    inputs = policy.model_inputs(observation)
    assert inputs.image_masks.tolist() == [[True, False, True]]
    assert (inputs.images[0, 1] == -1.0).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda o: replace(o, state=o.state + 0.5),
        lambda o: replace(o, instruction="open the drawer"),
        lambda o: replace(o, images={**o.images, "base_0_rgb": 255 - o.images["base_0_rgb"]}),
        lambda o: replace(o, images={k: v for k, v in o.images.items() if k != "base_0_rgb"}),
        lambda o: replace(o, stamp_ns=o.stamp_ns + 1),
    ],
)
def test_every_input_changes_the_actions(policy, observation, change):
    """A change of any part of an observation changes the actions."""
    assert np.abs(policy.infer(change(observation)).actions - policy.infer(observation).actions).max() > 1e-4


def test_noise_depends_on_seed_and_stamp(tiny_checkpoint, policy, observation):
    """The noise is a function of the seed and the observation's stamp."""
    same = load_policy(tiny_checkpoint, "torch", seed=0).infer(observation)
    np.testing.assert_array_equal(same.actions, policy.infer(observation).actions)
    other = load_policy(tiny_checkpoint, "torch", seed=1).infer(observation)
    assert np.abs(other.actions - same.actions).max() > 0.1


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda o: replace(o, state=o.state[:13]), r"state has shape \[13\]"),
        (lambda o: replace(o, state=o.state * np.nan), "state has values that are not finite"),
        (lambda o: replace(o, images={"head": o.images["base_0_rgb"]}), r"unknown cameras \['head'\]"),
        (lambda o: replace(o, images={}), "no camera image"),
        (lambda o: replace(o, images={"base_0_rgb": np.zeros((4, 4, 3))}), "'base_0_rgb' must be uint8.*float64"),
        (lambda o: replace(o, images={"base_0_rgb": np.zeros((4, 4), np.uint8)}), r"'base_0_rgb' .* uint8 \[4, 4\]"),
    ],
)
def test_a_bad_observation_is_refused_by_name(policy, observation, change, culprit):
    with pytest.raises(ObservationError, match=culprit):
        policy.infer(change(observation))


def test_an_unknown_backend_is_refused(tiny_checkpoint):
    with pytest.raises(BackendError, match="unknown backend 'abacus'"):
        load_policy(tiny_checkpoint, "abacus")
