"""Modelled costs of single ops against costs worked out by hand: sizes of tensors, 2 M K N, the card's peaks."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("ttnn") is None, reason="ttnn is not installed")

BFLOAT16, BFLOAT8_B = 2, 1088 / 1024  # bytes per value; a tile of bfloat8_b stores its exponents separately
ROWS, WEIGHT, PRODUCT = 64 * 1024 * BFLOAT16, int(1024 * 2048 * BFLOAT8_B), 64 * 2048 * BFLOAT16
HIFI4_OF_64_CORES = 74e12 * 64 / 72


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("known_ops")
    command = [sys.executable, str(Path(__file__).parent / "known_ops.py"), str(folder / "out.json")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return json.loads((folder / "out.json").read_text())


def test_linear_reads_and_writes_once(measured):
    """A linear layer reads and writes each tensor once."""
    linear = measured["linear"]
    assert linear["ops"] == ["MatmulDeviceOperation"] and linear["transfers"] == 0
    assert linear["flops"] == 2 * 64 * 1024 * 2048
    assert linear["bytes"] == ROWS + WEIGHT + PRODUCT
    assert linear["ms"] == pytest.approx(1e3 * (ROWS + WEIGHT + PRODUCT) / 288e9)
    assert PRODUCT <= linear["activations"] <= 1.1 * PRODUCT


def test_tensors_in_l1_cost_no_dram(measured):
    assert measured["linear, activations in L1"]["bytes"] == WEIGHT
    assert measured["linear, activations in L1"]["activations"] == 0


def test_programs_are_counted_not_calls(measured):
    assert measured["linear with activation"]["ops"] == ["MatmulDeviceOperation", "UnaryDeviceOperation"]


def test_large_matmul_is_compute_bound(measured):
    """The time of a large product is that of its cores' arithmetic."""
    large = measured["compute-bound linear"]
    assert large["flops"] == 2 * 832 * 2048 * 16384
    assert large["cores"] == [64]
    assert large["ms"] == pytest.approx(1e3 * large["flops"] / HIFI4_OF_64_CORES)


def test_cores_without_work_do_not_count(measured):
    # Two row tiles over one axis of the grid, 64 column tiles over the other: 2 x 8 cores. Eight heads, two chunks: 16.
    assert measured["minimal_matmul"]["cores"] == [16]
    assert measured["minimal_matmul"]["flops"] == 2 * 64 * 1024 * 2048
    assert measured["attention"]["cores"] == [16]
    assert measured["attention"]["flops"] == 4 * 8 * 64 * 896 * 256


def test_slice_costs_its_part(measured):
    """An op on a part of a tensor costs the part."""
    part = 64 * 256 * BFLOAT16
    assert measured["embedding"]["bytes"] == 64 * 4 + 2 * part
    assert measured["fill_cache"]["bytes"] == 2 * part


def test_a_tensor_that_is_written_in_place_is_read_and_written(measured):
    assert measured["in place"]["bytes"] == 2 * ROWS


def test_custom_kernel_is_one_op(measured):
    """Eight heads of 64 rows, joined and projected, added to rows; the result stays in L1."""
    own = measured["our own kernel"]
    assert own["ops"] == ["GenericOpDeviceOperation"] and own["cores"] == [32]
    assert own["flops"] == 2 * 64 * 2048 * 1024
    assert own["bytes"] == 2 * ROWS + int(2048 * 1024 * BFLOAT8_B) + ROWS


def test_transposed_weight_counts_once(measured):
    """Only the part of a transposed weight that is read counts."""
    own = measured["our own kernel, transposed"]
    assert own["ops"] == ["GenericOpDeviceOperation"] and own["cores"] == [32]
    assert own["flops"] == 2 * 64 * 2048 * 1024
    assert own["bytes"] == PRODUCT + int(2048 * 1024 * BFLOAT8_B)


def test_transposed_matmul(measured):
    """Products with a transposed factor."""
    first, second = measured["first factor transposed"], measured["second factor transposed"]
    assert first["ops"] == second["ops"] == ["MatmulDeviceOperation"]
    assert first["flops"] == 2 * 64 * 512 * 256
    assert second["flops"] == 2 * 512 * 256 * 896


def test_transfers_are_seen(measured):
    assert measured["transfers"]["transfers"] == 2 and measured["transfers"]["ops"] == []


def test_what_does_not_fit_into_l1_is_seen(measured):
    # TTNN allocates nothing while it captures, so it does not refuse this op itself.
    assert measured["too much in L1"]["l1"] > measured["too much in L1"]["l1_limit"]
    assert measured["linear"]["l1"] < measured["linear"]["l1_limit"]


def test_circular_buffers_that_do_not_fit_are_refused(measured):
    assert "beyond max L1 size" in measured["too large buffers"]["refused"]
