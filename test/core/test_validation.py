"""The verdicts of pi0-ttnn validate, and its behaviour without a device. For the components see test/device."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
from pi0_ttnn_core.configs import TINY
from pi0_ttnn_core.validation.comparison import Pair, compare, pcc, threshold
from pi0_ttnn_core.validation.runner import weight_reader


def test_pcc_is_pearsons():
    # Deviations (-1, 0, 1) and (-2, -1, 3): 5 / sqrt(2 * 14).
    assert pcc(np.array([1.0, 2.0, 3.0]), np.array([10.0, 11.0, 15.0])) == pytest.approx(5 / 28**0.5)


def test_residual_does_not_hide_wrong_branch():
    """A residual connection does not hide a wrong branch from the PCC."""
    random = torch.Generator().manual_seed(0)
    residual = 100.0 * torch.randn(64, 32, generator=random)
    branch, other = torch.randn(2, 64, 32, generator=random)
    assert compare("block", 0.999, Pair(residual + branch, residual + other)).passed
    assert not compare("block", 0.999, Pair(residual + branch, residual + other, residual)).passed


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_fails(value):
    expected = torch.arange(12.0)
    actual = expected.clone()
    actual[3] = value
    comparison = compare("mlp", 0.0, Pair(expected, actual))
    assert not comparison.passed and "not finite" in comparison.error


def test_constant_result_fails():
    assert not compare("mlp", 0.0, Pair(torch.arange(12.0), torch.ones(12))).passed


def test_max_error_is_the_largest_difference():
    comparison = compare("mlp", 0.9, Pair(torch.arange(12.0), torch.arange(12.0) + torch.tensor([0.25] + [0.0] * 11)))
    assert comparison.max_error == 0.25 and comparison.passed


def test_thresholds_are_those_that_are_documented():
    assert threshold("siglip_block", "default") == 0.999
    assert threshold("prefix_embedding", "default") == threshold("prefix_rms_norm", "accuracy") == 0.9999
    assert threshold("actions", "default") == threshold("guided_actions", "default") == 0.998
    assert threshold("expert_step_vjp", "default") == 0.998 and threshold("expert_block_vjp", "default") == 0.999
    assert threshold("actions", "accuracy") == threshold("prefix_mlp", "accuracy") == 0.9995


def test_random_weights_are_those_of_a_random_checkpoint(tiny_checkpoint):
    stored = open_checkpoint(tiny_checkpoint).read_tensor
    for name in ("prefix.layers.0.mlp.up_proj.weight", "prefix_embedding.embed_tokens.weight"):
        assert torch.equal(weight_reader(TINY, None)(name), stored(name))


def test_without_a_device_the_command_says_what_is_missing(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "pi0_ttnn_ros.cli.main", "validate"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TT_METAL_SIMULATOR": str(tmp_path / "nowhere.so")},
    )
    assert run.returncode == 2
    assert run.stderr == f"pi0-ttnn validate: TT_METAL_SIMULATOR names {tmp_path}/nowhere.so, which does not exist\n"
