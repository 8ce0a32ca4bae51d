"""Chunks become motion: in time, without jumps, within the limits, and never from bad values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_ttnn_core.policy import ActionChunk
from pi0_ttnn_ros.chunk_executor import ChunkExecutor
from pi0_ttnn_ros.safety import Limits, SafetyError

STEP = 20_000_000  # nanoseconds
LIMITS = Limits(np.array([-1.0, -2.0]), np.array([1.0, 2.0]), np.array([0.5, 3.0]))
WIDE = Limits(np.full(2, -100.0), np.full(2, 100.0), np.full(2, 1e6))


def chunk(actions, stamp=0) -> ActionChunk:
    return ActionChunk(np.array(actions, np.float32), "wave", stamp, 0.1)


def ramp(points: int) -> np.ndarray:
    """Action i is [i, -i]."""
    return np.arange(points)[:, None] * np.array([1.0, -1.0])


@pytest.mark.parametrize(
    ("elapsed", "first_action", "first_time"),
    [(0, 1, STEP), (1, 1, STEP - 1), (STEP, 2, STEP), (int(2.5 * STEP), 3, STEP // 2), (-STEP // 2, 0, STEP // 2)],
)
def test_what_has_passed_is_skipped(elapsed, first_action, first_time):
    executor = ChunkExecutor(WIDE, 0.02)
    motion = executor.splice(chunk(ramp(10), stamp=10**9), np.zeros(2), now=10**9 + elapsed)
    assert motion.times[0] == first_time
    np.testing.assert_allclose(motion.positions[0], [first_action, -first_action])
    np.testing.assert_array_equal(np.diff(motion.times), STEP)
    assert len(motion.times) == 10 - first_action


def test_a_chunk_that_is_over_is_refused():
    with pytest.raises(SafetyError, match="nothing of it is left"):
        ChunkExecutor(WIDE, 0.02).splice(chunk(ramp(10)), np.zeros(2), now=10 * STEP)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    actions = ramp(10)
    actions[7, 1] = value
    with pytest.raises(SafetyError, match="not finite"):
        ChunkExecutor(LIMITS, 0.02).splice(chunk(actions), np.zeros(2), now=0)
    with pytest.raises(SafetyError, match="not finite"):
        ChunkExecutor(LIMITS, 0.02).splice(chunk(ramp(10)), np.array([0.0, value]), now=0)


finite = st.floats(-1e6, 1e6, width=32)


# Three actions or more: at a latency of one whole step, the first two have passed.
@given(
    st.lists(st.tuples(finite, finite), min_size=3, max_size=20),
    st.lists(st.tuples(finite, finite), min_size=3, max_size=20),
    st.integers(0, STEP),
    st.floats(0, 1),
)
def test_no_actions_lead_out_of_the_limits_or_jump(first, second, latency, when):
    executor = ChunkExecutor(LIMITS, 0.02)
    before, now = np.zeros(2), latency
    motion = executor.splice(chunk(first, stamp=0), before, now)
    assert_within_limits(motion, before)
    later = now + int(when * motion.times[-1])
    before = executor.command_at(later)
    motion = executor.splice(chunk(second, stamp=later - latency), np.array([9.0, 9.0]), later)
    assert_within_limits(motion, before)


def assert_within_limits(motion, start) -> None:
    assert (motion.positions >= LIMITS.position_min - 1e-9).all()
    assert (motion.positions <= LIMITS.position_max + 1e-9).all()
    steps = np.diff(motion.times, prepend=0)[:, None] * 1e-9
    speeds = np.abs(np.diff(motion.positions, axis=0, prepend=start[None])) / steps
    assert (speeds <= LIMITS.max_velocity * (1 + 1e-6) + 1e-6).all()
    assert (np.abs(motion.velocities) <= LIMITS.max_velocity * (1 + 1e-6)).all()
    assert not motion.velocities[-1].any()


def test_a_motion_between_the_points_overshoots_no_limit():
    """With these velocities the cubic between two points stays between them, also at turns."""
    from pi0_ttnn_ros.trajectory_interpolation import JointTrajectory, TrajectoryFollower

    random = np.random.default_rng(0)
    motion = ChunkExecutor(LIMITS, 0.02).splice(chunk(random.uniform(-9, 9, (50, 2))), np.zeros(2), now=0)
    follower = TrajectoryFollower(np.zeros(2))
    follower.replace(JointTrajectory(0, motion.times, motion.positions, motion.velocities), now=0)
    points = np.vstack([np.zeros(2), motion.positions])
    for index in range(len(motion.times)):
        ends = points[index : index + 2]
        begin = motion.times[index] - STEP
        inner = np.array([follower.sample(int(begin + f * STEP))[0] for f in np.linspace(0, 1, 9)])
        assert (inner >= ends.min(axis=0) - 1e-9).all() and (inner <= ends.max(axis=0) + 1e-9).all()


def test_a_hold_stops_where_the_robot_is_commanded_to_be():
    executor = ChunkExecutor(WIDE, 0.02)
    executor.splice(chunk(ramp(10)), np.zeros(2), now=0)
    hold = executor.hold(now=int(3.5 * STEP))
    np.testing.assert_allclose(hold.positions, [[3.5, -3.5]])
    assert not hold.velocities.any()
    np.testing.assert_allclose(executor.command_at(10**12), [3.5, -3.5])


def test_there_is_nothing_to_hold_before_the_first_chunk_or_after_a_reset():
    executor = ChunkExecutor(WIDE, 0.02)
    assert executor.hold(now=0) is None
    executor.splice(chunk(ramp(10)), np.zeros(2), now=0)
    executor.reset()
    assert executor.hold(now=0) is None and executor.command_at(0) is None


def test_from_outside_of_the_limits_the_way_leads_back_inside():
    motion = ChunkExecutor(LIMITS, 0.02).splice(chunk(np.full((100, 2), 5.0)), np.array([1.5, -2.5]), now=0)
    assert (np.diff(motion.positions[:, 0]) <= 1e-9).all()
    np.testing.assert_allclose(motion.positions[-1], [1.0, 2.0])
