"""Converted weights on disk: converted once, and never used when damaged.

`test_weight_cache.py` runs this file in a subprocess: TTNN converts nothing without a device, here a mock.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pi0_ttnn_core.wormhole import select_mock_wormhole

descriptor = tempfile.TemporaryDirectory()
select_mock_wormhole("8x8", Path(descriptor.name))

import numpy as np
import pytest
import torch
import ttnn

from pi0_ttnn_core.checkpoints import digests
from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint
from pi0_ttnn_core.tt.weights.cache import MANIFEST, WeightCache, cache_key

VALUES = {"a.weight": torch.arange(64.0).reshape(1, 64), "b.weight": torch.ones(32, 32)}


class Converter:
    """Converts VALUES and records which were converted."""

    def __init__(self) -> None:
        self.converted: list[str] = []

    def __call__(self, cache: WeightCache) -> dict[str, np.ndarray]:
        self.converted = []

        def convert(name: str) -> ttnn.Tensor:
            self.converted.append(name)
            return ttnn.from_torch(VALUES[name], dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT)

        tensors = {name: ttnn.to_torch(cache.get(name, lambda name=name: convert(name))) for name in VALUES}
        cache.close()
        return tensors


def assert_right(tensors) -> None:
    for name, values in VALUES.items():
        assert torch.equal(tensors[name].float(), values)


@pytest.fixture
def convert() -> Converter:
    return Converter()


@pytest.fixture
def folder(tmp_path, convert):
    """A folder that holds all of VALUES."""
    assert_right(convert(WeightCache(tmp_path / "cache")))
    assert convert.converted == list(VALUES)
    return tmp_path / "cache"


def test_what_is_kept_is_not_converted_again(folder, convert):
    assert_right(convert(WeightCache(folder)))
    assert convert.converted == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty"])
def test_a_damaged_file_is_made_again_and_then_kept(folder, convert, damage):
    file = folder / "a.weight.tensorbin"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes({"flip": content, "truncate": content[:-1], "empty": b""}[damage])
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))  # the clock of files may not have ticked since
    assert_right(convert(WeightCache(folder)))
    assert convert.converted == ["a.weight"]
    assert_right(convert(WeightCache(folder)))
    assert convert.converted == []


def test_weights_are_read_once(folder, convert, monkeypatch):
    """Cached weights that have not changed are loaded without being read for their digests."""
    monkeypatch.setattr(digests, "file_digest", lambda file: pytest.fail(f"{file} is read again"))
    assert_right(convert(WeightCache(folder)))
    assert convert.converted == []


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_without_its_list_of_files_nothing_of_a_cache_counts(folder, convert, content):
    (folder / MANIFEST).unlink() if content is None else (folder / MANIFEST).write_text(content)
    assert_right(convert(WeightCache(folder)))
    assert convert.converted == list(VALUES)


def test_a_load_that_was_cut_off_leaves_a_cache_that_counts_for_nothing(tmp_path, convert):
    cache = WeightCache(tmp_path / "cache")
    cache.get("a.weight", lambda: ttnn.from_torch(VALUES["a.weight"], dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT))
    assert_right(convert(WeightCache(tmp_path / "cache")))
    assert convert.converted == list(VALUES)


def test_a_disk_that_cannot_be_written_costs_the_cache_alone(tmp_path, convert):
    (tmp_path / "file").write_text("in the way")
    assert_right(convert(WeightCache(tmp_path / "file" / "cache")))


def test_other_weights_sizes_or_precision_have_another_cache(tmp_path):
    for name, seed in (("one", 0), ("the same elsewhere", 0), ("another", 1)):
        make_checkpoint("tiny", tmp_path / name, seed)
    one, same, another = (
        open_checkpoint(tmp_path / name).digest() for name in ("one", "the same elsewhere", "another")
    )
    assert one == same != another
    assert len({cache_key(one, 10), cache_key(one, 5), cache_key(another, 10)}) == 3
