"""Fixtures that several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi0_ttnn_core.random_checkpoint import make_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of the tiny config. Read only: copy it to change it."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    make_checkpoint("tiny", folder, seed=0)
    return folder
