"""The joint trajectory controller's rules and interpolation, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_ttnn_ros.aloha.trajectory_follower import (
    TrajectoryError,
    TrajectoryFollower,
    Waypoints,
    check_joint_names,
)

SECOND = 10**9


def trajectory(times, positions, velocities=None, start=0) -> Waypoints:
    times = np.array([round(t * SECOND) for t in times], np.int64)
    positions = np.array(positions, float).reshape(len(times), 1)
    if velocities is not None:
        velocities = np.array(velocities, float).reshape(len(times), 1)
    return Waypoints(start, times, positions, velocities)


def test_positions_alone_are_interpolated_linearly():
    """Without velocities the path between two points is a straight line."""
    follower = TrajectoryFollower(np.array([1.0]))
    follower.replace(trajectory([1, 3], [2, 6]), now_ns=0)
    assert follower.sample(SECOND // 2)[0] == pytest.approx(1.5)
    position, velocity = follower.sample(2 * SECOND)
    assert (position, velocity) == (pytest.approx(4.0), pytest.approx(2.0))
    assert follower.sample(99 * SECOND)[0] == pytest.approx(6.0)


def test_positions_and_velocities_give_a_cubic():
    """t^3 - 2 t^2 + t is the cubic with 0, 0 at its ends and velocities 1 and 0."""
    follower = TrajectoryFollower(np.array([0.0]))
    follower.replace(trajectory([1, 2], [5, 5], [1, 0]), now_ns=0)
    for t in np.linspace(0, 1, 7):
        position, velocity = follower.sample(round((1 + t) * SECOND))
        assert position == pytest.approx(5 + t**3 - 2 * t**2 + t)
        assert velocity == pytest.approx(3 * t**2 - 4 * t + 1, abs=1e-6)


def test_new_trajectory_starts_at_desired_state():
    """A new trajectory is followed from the current desired state; its points in the past are skipped."""
    follower = TrajectoryFollower(np.array([0.0]))
    follower.replace(trajectory([2], [2]), now_ns=0)
    follower.replace(trajectory([1, 2, 3], [100, 50, 7], start=0), now_ns=round(1.5 * SECOND))
    assert follower.sample(round(1.5 * SECOND))[0] == pytest.approx(1.5)
    assert follower.sample(round(1.75 * SECOND))[0] == pytest.approx((1.5 + 50) / 2)
    assert follower.sample(3 * SECOND)[0] == pytest.approx(7)


@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=6),
    st.lists(st.floats(-3, 3), min_size=1, max_size=6),
    st.floats(0.0, 0.99),
)
def test_replacing_never_jumps(first, second, when):
    follower = TrajectoryFollower(np.array([0.0]))
    for positions, now_ns in ((first, 0), (second, round(when * len(first) * SECOND))):
        before = follower.sample(now_ns)[0]
        velocities = [*np.ones(len(positions) - 1), 0]
        follower.replace(trajectory(range(1, len(positions) + 1), positions, velocities, start=now_ns), now_ns)
        assert follower.sample(now_ns)[0] == pytest.approx(before)
        assert follower.sample(now_ns + 1)[0] == pytest.approx(before, abs=1e-6)
        for index, position in enumerate(positions, start=1):
            assert follower.sample(now_ns + index * SECOND)[0] == pytest.approx(position)


@pytest.mark.parametrize(
    ("refused", "culprit"),
    [
        (trajectory([], []), "no points"),
        (trajectory([1, 1], [0, 0]), "increase strictly"),
        (trajectory([-1, 1], [0, 0]), "increase strictly"),
        (trajectory([1], [np.nan]), "not finite"),
        (trajectory([1], [0], [np.inf]), "not finite"),
        (trajectory([1], [0], [0.5]), "last point must be zero"),
        (trajectory([1], [0], start=-5 * SECOND), "ended 4.000 s ago"),
    ],
)
def test_refused_trajectory_changes_nothing(refused, culprit):
    """After a trajectory that is refused the previous one is still followed."""
    follower = TrajectoryFollower(np.array([1.0]))
    with pytest.raises(TrajectoryError, match=culprit):
        follower.replace(refused, now_ns=0)
    assert follower.sample(SECOND)[0] == 1.0


@pytest.mark.parametrize(
    ("names", "culprit"),
    [(["a"], r"missing \['b'\]"), (["a", "b", "c"], r"unknown \['c'\]"), (["a", "b", "b"], "3 of 2")],
)
def test_wrong_joint_names_are_named(names, culprit):
    with pytest.raises(TrajectoryError, match=culprit):
        check_joint_names(names, ["a", "b"])


def test_joint_names_may_come_in_any_order():
    check_joint_names(["b", "a"], ["a", "b"])
