"""Real-time chunking: the guided flow against the published formulas in numpy, and its effect."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pi0_ttnn_core.policy import load_policy
from pi0_ttnn_core.policy_io import Observation
from pi0_ttnn_core.reference.denoise import denoise
from pi0_ttnn_core.reference.guidance import guide
from pi0_ttnn_core.rtc import GuidanceTarget, soft_mask

HORIZON, STEPS = 12, 10


def test_soft_mask_matches_paper():
    """Equation 5: 1 up to the delay d, c (e^c - 1) / (e - 1) with c = (H - s - i) / (H - s - d + 1), 0 from H - s."""
    weights = soft_mask(horizon=50, num_frozen=4, overlap=40)
    assert (weights[:4] == 1).all() and (weights[40:] == 0).all()
    for index in range(4, 40):
        c = (40 - index) / (40 - 4 + 1)
        assert weights[index] == pytest.approx(c * (np.exp(c) - 1) / (np.e - 1))
    assert (soft_mask(10, 10, 10) == 1).all() and (soft_mask(10, 0, 0) == 0).all()


def test_guided_flow_matches_closed_form():
    """Actions and noise are standard normal: the velocity is x (2t - 1) / (t^2 + (1 - t)^2), its Jacobian diagonal."""

    def slope(t):
        return (2 * t - 1) / (t**2 + (1 - t) ** 2)

    random = np.random.default_rng(0)
    noise, actions = random.standard_normal((2, 1, HORIZON, 3)).astype(np.float32)
    weights = soft_mask(HORIZON, 3, 8)
    flow = guide(lambda x, time: x * slope(time)[:, None, None], torch.from_numpy(actions), torch.from_numpy(weights))
    found = denoise(flow, torch.from_numpy(noise), STEPS).numpy()

    x = noise.astype(np.float64)
    for step in range(STEPS):  # algorithm 1, in the paper's time
        tau = step / STEPS
        jacobian = 1 - (1 - tau) * slope(1 - tau)
        velocity = -x * slope(1 - tau)
        clean = x + (1 - tau) * velocity
        r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
        beta = min(10.0, (1 - tau) / (tau * r2)) if tau else 10.0
        x = x + (velocity + beta * (actions - clean) * weights[:, None] * jacobian) / STEPS
    np.testing.assert_allclose(found, x, atol=1e-5)


@pytest.fixture(scope="module")
def policy(tiny_checkpoint):
    return load_policy(tiny_checkpoint, "torch")


def observation(policy, stamp_ns: int) -> Observation:
    image = np.full((48, 64, 3), 90, np.uint8)
    return Observation({policy.checkpoint.cameras[0]: image}, np.zeros(14, np.float32), "wave", stamp_ns)


def test_guided_chunk_matches_frozen_target(policy):
    """A guided chunk agrees with the target where it is frozen, less where it overlaps, least where it is free."""
    first, free = policy.infer(observation(policy, 1)), policy.infer(observation(policy, 2))
    weights = soft_mask(policy.action_horizon, 10, 30)
    bound = policy.infer(observation(policy, 2), GuidanceTarget(first.actions, weights))
    distance, without = np.abs(bound.actions - first.actions), np.abs(free.actions - first.actions)
    assert distance[:10].mean() < 0.25 * without[:10].mean()
    assert distance[:10].mean() < distance[10:30].mean() < distance[30:].mean()


def test_target_with_zero_weight(policy):
    """A guidance target whose mask is zero does not change the actions."""
    free = policy.infer(observation(policy, 2))
    target = GuidanceTarget(np.ones_like(free.actions), np.zeros(policy.action_horizon, np.float32))
    np.testing.assert_allclose(policy.infer(observation(policy, 2), target).actions, free.actions, atol=1e-6)
