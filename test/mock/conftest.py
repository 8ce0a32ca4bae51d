"""Start the captures of the full-size models as soon as it is known that tests need them."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from captures import Captures

_captures = pytest.StashKey[Captures]()


def pytest_collection_finish(session: pytest.Session) -> None:
    requested = [
        item.callspec.params["graph"] for item in session.items if "graph" in getattr(item, "fixturenames", ())
    ]
    if requested and find_spec("ttnn") is not None and not session.config.option.collectonly:
        session.config.stash[_captures] = Captures(
            Path(tempfile.mkdtemp(prefix="captures-")), list(dict.fromkeys(requested))
        )


@pytest.fixture(scope="session")
def captures(request: pytest.FixtureRequest) -> Captures:
    return request.config.stash[_captures]


def pytest_sessionfinish(session: pytest.Session) -> None:
    running = session.config.stash.get(_captures, None)
    if running is not None:
        running.stop()
        running.remove()
