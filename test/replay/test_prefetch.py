"""Work ahead in threads."""

from __future__ import annotations

import threading

import pytest

from pi0_ttnn_ros.replay.prefetch import prefetched
from support.waiting import TIMEOUT


def test_prefetch_order_and_laziness():
    """Results keep the order of the items, which are taken only as needed."""
    taken = []

    def items():
        for number in range(10):
            taken.append(number)
            yield number

    results = prefetched(lambda number: number * number, items(), workers=2)
    assert next(results) == 0 and taken == [0, 1, 2]
    assert list(results) == [number * number for number in range(1, 10)]


def test_prefetch_runs_concurrently():
    """Items are processed while the consumer works."""
    # Each waits for the other: without a thread the second item would never be worked on while the first is used.
    used = threading.Event()
    results = prefetched(lambda number: number == 0 or used.wait(TIMEOUT), range(2), workers=1)
    assert next(results)
    used.set()
    assert next(results)


def test_prefetch_errors():
    """An error is raised where its item's result would be."""
    results = prefetched(lambda number: 1 // number, [1, 0, 1], workers=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
