"""Several publishers of a topic are noticed by the numbers of their messages."""

from __future__ import annotations

import pytest

from pi0_ttnn_ros.node.publisher_check import UNNUMBERED, WINDOW_S, PublisherCheck


def several(numbers) -> bool:
    """Return what is found after these messages, 20 ms apart."""
    check = PublisherCheck()
    for index, number in enumerate(numbers):
        check.put(number, 0.02 * index)
    return check.several(0.02 * len(numbers))


@pytest.mark.parametrize(
    "numbers",
    [
        range(1, 100),
        range(1, 1000, 7),  # most of them are lost
        [*range(500, 600), *range(1, 100)],  # the publisher is restarted
        [UNNUMBERED] * 100,
        [None] * 100,
    ],
)
def test_one_publisher(numbers):
    assert not several(numbers)


@pytest.mark.parametrize("offset", [0, 1, 2, 1000])
def test_two_publishers(offset):
    """Wherever their numbers are, within a few messages."""
    assert several([number + offset * (index % 2) for index, number in enumerate([1, 1, 2, 2, 3, 3, 4, 4])])


def test_second_publisher_goes():
    check = PublisherCheck()
    for now in range(4):
        check.put(100 - now, float(now))
    assert check.several(4.0)
    check.put(200, 4.0)
    assert not check.several(4.0 + WINDOW_S)
