"""Work ahead in threads."""

from __future__ import annotations

import threading

import pytest

from pi0_ttnn_ros.replay.prefetch import prefetched


def test_keeps_the_order_and_takes_items_only_as_needed():
    taken = []

    def items():
        for number in range(10):
            taken.append(number)
            yield number

    results = prefetched(lambda number: number * number, items(), workers=2)
    assert next(results) == 0 and taken == [0, 1, 2]
    assert list(results) == [number * number for number in range(1, 10)]


def test_works_at_the_same_time_as_its_user():
    # Each waits for the other: without a thread the second item would never be worked on while the first is used.
    used = threading.Event()
    results = prefetched(lambda number: number == 0 or used.wait(60), range(2), workers=1)
    assert next(results)
    used.set()
    assert next(results)


def test_errors_come_in_their_place():
    results = prefetched(lambda number: 1 // number, [1, 0, 1], workers=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
