"""Digests of weights are remembered, and never trusted for a file that has changed."""

from __future__ import annotations

import hashlib
import os

import pytest

from pi0_ttnn_core.checkpoints import digests
from pi0_ttnn_core.checkpoints.digests import RememberedDigests, forget_digests


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PI0_TTNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path):
    (tmp_path / "weights").write_bytes(b"weights")
    return tmp_path / "weights"


@pytest.fixture
def read(monkeypatch):
    """The files that were read."""
    names: list[str] = []
    digest = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path: [names.append(path.name), digest(path)][1])
    return names


def digest_of(file) -> str:
    """Return the digest as a process does that starts now."""
    remembered = RememberedDigests()
    digest = remembered.of(file)
    remembered.save()
    return digest


def test_unchanged_file_is_read_once(file, read):
    expected = hashlib.sha256(b"weights").hexdigest()
    assert [digest_of(file), digest_of(file)] == [expected, expected]
    assert read == ["weights"]


def test_changed_file_is_read_again(file, read, tmp_path):
    """A file is read again when its size, its time of change or its inode differs."""
    digest_of(file)
    changed = file.stat().st_mtime_ns
    file.write_bytes(b"longer weights")
    os.utime(file, ns=(changed, changed))
    assert digest_of(file) == hashlib.sha256(b"longer weights").hexdigest()
    file.write_bytes(b"edited weights")
    os.utime(file, ns=(changed, changed + 1))
    assert digest_of(file) == hashlib.sha256(b"edited weights").hexdigest()
    (tmp_path / "other").write_bytes(b"placed weights")
    os.utime(tmp_path / "other", ns=(changed, changed + 1))
    (tmp_path / "other").replace(file)
    assert digest_of(file) == hashlib.sha256(b"placed weights").hexdigest()
    assert read == ["weights"] * 4


def test_forgotten_file_is_read_again(file, read):
    """After `forget_digests` damage that left no mark is found."""
    digest_of(file)
    changed = file.stat().st_mtime_ns
    file.write_bytes(b"damaged")
    os.utime(file, ns=(changed, changed))
    assert digest_of(file) == hashlib.sha256(b"weights").hexdigest()
    forget_digests()
    assert digest_of(file) == hashlib.sha256(b"damaged").hexdigest()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": [1]}'])
def test_damaged_list_is_ignored(file, cache, content):
    digest_of(file)
    (cache / "digests.json").write_text(content)
    assert digest_of(file) == hashlib.sha256(b"weights").hexdigest()


def test_list_keeps_what_exists(file, cache, tmp_path):
    """Two processes lose nothing of each other; files that are gone are forgotten."""
    first, second = RememberedDigests(), RememberedDigests()
    (tmp_path / "more").write_bytes(b"more")
    (tmp_path / "gone").write_bytes(b"gone")
    first.of(file), first.of(tmp_path / "gone"), second.of(tmp_path / "more")
    (tmp_path / "gone").unlink()
    first.save(), second.save()
    text = (cache / "digests.json").read_text()
    assert "weights" in text and "more" in text and "gone" not in text


def test_cache_that_cannot_be_written(file, cache):
    cache.write_text("in the way")
    assert digest_of(file) == hashlib.sha256(b"weights").hexdigest()
