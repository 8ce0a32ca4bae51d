"""pi0-ttnn validate, as a user runs it: each component against the float32 reference, small and at full width."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

from device_cases import WORMHOLE, needs_wormhole

pytestmark = needs_wormhole

VISION = ["patch_embedding", "siglip_attention", "siglip_mlp", "siglip_block", "siglip_tower", "projector"]
PREFIX = ["prefix_embedding", *(f"prefix_{part}" for part in ("rms_norm", "rope", "attention", "mlp", "block"))]
EXPERT = ["suffix_embedding", *(f"expert_{part}" for part in ("rms_norm", "rope", "attention", "mlp", "block"))]
GRADIENTS = ["expert_block_vjp", "expert_step_vjp"]
WHOLE = ["expert_step", "output_projection", "actions", *GRADIENTS, "guided_actions"]
PI0 = [*VISION, *PREFIX, *EXPERT, *WHOLE]
# Components that differ in PI0.5.
PI05 = ["suffix_embedding", "expert_adaptive_rms_norm", "expert_block", "expert_step", "actions", *GRADIENTS]
# Blocks contain the attention and the MLP; a simulator computes some 170 MFLOP/s.
FULL_WIDTH = [
    *("patch_embedding", "siglip_block", "projector", "prefix_embedding", "prefix_rms_norm", "prefix_rope"),
    *("prefix_block", "suffix_embedding", "expert_rms_norm", "expert_rope", "expert_block", "output_projection"),
]
RUNS = {
    "tiny": PI0,
    "tiny_pi05": PI05,
    "tiny_pi05, guided": ["guided_actions"],
    "pi0": FULL_WIDTH,
    "pi05": ["expert_adaptive_rms_norm"],
}


def validate(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pi0_ttnn_ros.cli.main", "validate", "--json", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@cache
def validated(run: str) -> subprocess.CompletedProcess[str]:
    """Validate all components of one of RUNS, whose name starts with that of the model."""
    config, *_ = run.split(",")
    return validate("--config", config, *(option for name in RUNS[run] for option in ("--component", name)))


def report(run: str) -> dict:
    validation = validated(run)
    assert validation.stdout, validation.stderr
    return json.loads(validation.stdout)


# A simulator takes minutes for these.
SLOW = ("tiny_pi05, guided", "pi0", "pi05")


def run_param(run: str, *values: str):
    return pytest.param(run, *values, marks=[pytest.mark.slow] if run in SLOW else [])


@pytest.mark.parametrize(("run", "name"), [run_param(run, name) for run in RUNS for name in RUNS[run]])
def test_component_matches_reference(run, name):
    """Each component on the device passes its threshold against the float32 reference."""
    (row,) = [row for row in report(run)["components"] if row["component"] == name]
    assert row["passed"], row


@pytest.mark.parametrize("run", [run_param(run) for run in RUNS])
def test_report_and_exit_status(run):
    """The report names the device; the exit status is the verdict."""
    assert WORMHOLE.name in report(run)["device"]
    assert validated(run).returncode == (0 if report(run)["passed"] else 1)


def test_unknown_component_is_refused_with_the_known_ones():
    run = validate("--component", "flux_capacitor")
    assert run.returncode == 2 and not run.stdout
    assert "flux_capacitor" in run.stderr and "siglip_block" in run.stderr
