"""Chunks become one motion: in time, without jumps whatever the latencies, within the limits, never from bad values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.aloha.trajectory_follower import TrajectoryFollower, Waypoints
from pi0_ttnn_ros.execution.chunk_executor import (
    FROZEN_NS,
    GRID_NS,
    SMOOTHING_WINDOW,
    STRATEGIES,
    ChunkExecutor,
    Execution,
)
from pi0_ttnn_ros.execution.safety import Limits, SafetyError

PERIOD = 20_000_000  # nanoseconds
LIMITS = Limits(
    ("arm", "finger"), np.array([-1.0, 0.0]), np.array([1.0, 0.1]), np.array([2.0, 0.5]), np.array([10.0, 4.0])
)
ASYNCHRONOUS = Execution("asynchronous", 0.02, 0.02, max_chunk_age=2.0, max_jump_time=1e3)
REST = np.array([0.0, 0.05])
AWAY = np.array([0.9, 0.0])


def chunk(actions, stamp_ns=0) -> ActionChunk:
    return ActionChunk(np.array(actions, np.float32), "wave", stamp_ns, 0.1)


def wave(stamp_ns: int, points: int = 50) -> np.ndarray:
    """A motion over absolute time that is well within the limits."""
    times = stamp_ns * 1e-9 + 0.02 * np.arange(points)
    return np.stack([0.4 * np.sin(2 * times), 0.05 + 0.02 * np.sin(3 * times)], axis=1)


class Controller:
    """What a joint_trajectory_controller makes of the plans: each replaces the one before when it arrives."""

    def __init__(self) -> None:
        self.follower = TrajectoryFollower(REST)

    def take(self, plan, arrival: int, ahead: np.ndarray | float) -> None:
        """Take a plan, and check that at its arrival it goes on from what is executed, in position and velocity.

        A hold begins before it arrives: the controller may be `ahead` [joints] of it, rad.
        """
        position, velocity = self.follower.sample(arrival)
        self.follower = TrajectoryFollower(REST)
        motion = Waypoints(plan.stamp_ns, plan.times_ns, plan.positions, plan.velocities)
        self.follower.replace(motion, plan.stamp_ns - 1)
        there = self.follower.sample(arrival)
        assert (np.abs(there[0] - position) <= 1e-9 + ahead).all()
        if not np.any(ahead):
            np.testing.assert_allclose(there[1], velocity, atol=1e-7)


def assert_within_limits(plan, limits=LIMITS) -> None:
    positions, velocities = plan.positions, plan.velocities
    assert np.isfinite(positions).all() and np.isfinite(velocities).all()
    assert (positions >= limits.position_min - 1e-9).all() and (positions <= limits.position_max + 1e-9).all()
    assert (np.abs(velocities) <= limits.max_velocity + 1e-9).all()
    accelerations = np.diff(velocities, axis=0) / (GRID_NS * 1e-9)
    assert (np.abs(accelerations) <= limits.max_acceleration * (1 + 1e-6)).all()
    assert (np.abs(np.diff(accelerations, axis=0)) <= limits.max_acceleration * (2 / SMOOTHING_WINDOW + 1e-6)).all()
    # The cubic between two points is the parabola of constant acceleration.
    steps = (velocities[1:] + velocities[:-1]) * (GRID_NS * 1e-9 / 2)
    np.testing.assert_allclose(np.diff(positions, axis=0), steps, atol=1e-9)
    assert plan.times_ns[0] == 0 and (np.diff(plan.times_ns) == GRID_NS).all()
    assert not plan.velocities[-1].any()


wild = st.floats(-1e3, 1e3, width=32)
events = st.lists(
    st.tuples(
        # ms until the next call (most on time, some very late), ms that the plan needs to arrive
        st.one_of(st.integers(15, 25), st.integers(0, 700)),
        st.integers(0, FROZEN_NS // 10**6),
        # what happens before it: nothing, a hold, or a chunk of such an age (ms) with such actions
        st.one_of(
            st.none(),
            st.just("hold"),
            st.tuples(st.integers(0, 900), st.lists(st.tuples(wild, wild), min_size=1, max_size=30)),
        ),
    ),
    max_size=25,
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=30, deadline=None)
@given(events)
def test_motion_is_continuous_for_any_latency(strategy, happenings):
    """For any history of latencies the motion is continuous and within the limits."""
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, strategy=strategy))
    controller = Controller()
    now_ns = arrival = 10**9
    # In FROZEN_NS four smoothed steps change the acceleration from one limit to the other.
    ahead = LIMITS.max_acceleration * (GRID_NS * 1e-9) ** 2 * (16 + 9 + 4 + 1) / 4
    for wait, transport, happening in happenings:
        now_ns += wait * 10**6
        measured = controller.follower.sample(now_ns)[0]
        executor.observe(measured, now_ns)
        if happening == "hold":
            executor.hold()
        elif happening:
            age, actions = happening
            try:
                executor.add(chunk(actions, now_ns - age * 10**6), measured, now_ns)
            except SafetyError as error:
                assert "nothing of it is left" in str(error) or "the commanded position" in str(error)
        plan = executor.plan(now_ns)
        if plan is not None:
            assert_within_limits(plan)
            arrival = max(arrival, now_ns + transport * 10**6)  # in order, as a topic delivers
            controller.take(plan, arrival, ahead if happening == "hold" else 0.0)


@pytest.mark.parametrize("strategy", ["asynchronous", "blended", "rtc"])
def test_chunks_of_one_motion_are_spliced(strategy):
    """Twenty chunks of the same motion, each 100 to 300 ms late: the command is that motion, in time."""
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, strategy=strategy))
    random = np.random.default_rng(0)
    now_ns, ready, stamp_ns, boundaries = 0, 0, 0, 0
    while boundaries < 20:
        if now_ns >= ready:
            executor.add(chunk(wave(stamp_ns), stamp_ns), REST, now_ns)
            stamp_ns, ready = now_ns, now_ns + int(random.uniform(0.1, 0.3) * 1e9)
            boundaries += 1
        plan = executor.plan(now_ns)
        if now_ns > 10**9:
            times = (plan.stamp_ns + plan.times_ns[:8]) * 1e-9
            np.testing.assert_allclose(plan.positions[:8, 0], 0.4 * np.sin(2 * times), atol=2e-3)
        now_ns += PERIOD


def test_chunk_entry_at_p95_latency():
    """Chunks that come earlier than the slowest ones wait: until then the earlier chunk goes on."""
    executor = ChunkExecutor(LIMITS, ASYNCHRONOUS)
    executor.add(chunk(np.tile([0.1, 0.05], (50, 1)), 0), REST, now_ns=300_000_000)
    assert executor.latency_ns == 300_000_000
    follow(executor, 300_000_000, 500_000_000)
    executor.add(chunk(np.tile([0.2, 0.05], (50, 1)), 480_000_000), REST, now_ns=500_000_000)
    entry = 480_000_000 + executor.latency_ns
    assert entry == 780_000_000 - 14_000_000  # 95 % of the way from 20 to 300 ms
    positions = follow(executor, 500_000_000, 10**9)[:, 0]
    moved = 500_000_000 + PERIOD * int(np.argmax(positions > 0.101))
    assert entry - SMOOTHING_WINDOW * PERIOD < moved <= entry + SMOOTHING_WINDOW * PERIOD
    np.testing.assert_allclose(positions[-1], 0.2, atol=1e-6)


def follow(executor: ChunkExecutor, start: int, end: int) -> np.ndarray:
    """Plan once a period and return the positions at those moments."""
    return np.array([executor.plan(now_ns).positions[0] for now_ns in range(start, end, PERIOD)])


def test_synchronous_executes_whole_chunks():
    """The synchronous strategy executes a chunk to its end and requests the next one at rest."""
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, strategy="synchronous"))
    assert executor.wants_chunk(0)
    executor.add(chunk(wave(0), stamp_ns=0), REST, now_ns=500_000_000)
    begin = 500_000_000 + FROZEN_NS
    positions = follow(executor, 500_000_000, begin + 50 * PERIOD)
    # Action 0 is meant for the moment of arrival, whatever the latency was.
    np.testing.assert_allclose(positions[22:45], wave(0)[20:43], atol=2e-3)
    assert not executor.wants_chunk(begin + 40 * PERIOD)
    now_ns = begin + 60 * PERIOD
    follow(executor, begin + 50 * PERIOD, now_ns)
    assert executor.wants_chunk(now_ns)
    np.testing.assert_allclose(executor.plan(now_ns).positions[0], wave(0)[-1], atol=1e-6)


def test_synchronous_execution_horizon():
    """The synchronous strategy executes no more steps than `execution_horizon`."""
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, strategy="synchronous", execution_horizon=10))
    executor.add(chunk(wave(0), stamp_ns=0), REST, now_ns=0)
    positions = follow(executor, 0, 40 * PERIOD)
    np.testing.assert_allclose(positions[-1], wave(0)[9], atol=1e-6)


def test_blended_is_weighted_mean():
    """The blended strategy commands the weighted mean of all chunks that cover a moment."""
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, strategy="blended", ensemble_coefficient=1.0))
    for value in (0.1, 0.4):
        executor.add(chunk(np.tile([value, 0.05], (100, 1)), 0), REST, now_ns=0)
    positions = follow(executor, 0, 60 * PERIOD)
    expected = (0.1 + np.exp(-1) * 0.4) / (1 + np.exp(-1))  # the older one weighs more
    np.testing.assert_allclose(positions[-1], [expected, 0.05], atol=1e-6)


def test_rtc_freezes_executed_steps():
    """Real-time chunking freezes the steps that are executed during inference."""
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, strategy="rtc"))
    assert executor.guidance_target(0, REST) is None
    executor.add(chunk(wave(0), stamp_ns=0), REST, now_ns=100_000_000)
    target = executor.guidance_target(200_000_000, REST)
    assert target.actions.shape == (50, 2)
    np.testing.assert_allclose(target.actions[:40], wave(0)[10:], atol=1e-6)
    # 100 ms of inference and 40 ms until a plan takes effect: seven steps are frozen, ten have no earlier action.
    assert (target.weights[:7] == 1).all() and (target.weights[40:] == 0).all()
    assert (np.diff(target.weights[6:41]) < 0).all()
    assert executor.guidance_target(2 * 10**9, REST) is None


def test_max_chunk_age():
    """A chunk is not executed beyond `max_chunk_age`."""
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, max_chunk_age=0.4))
    executor.add(chunk(np.linspace(REST, REST + AWAY, 100), stamp_ns=0), REST, now_ns=0)
    follow(executor, 0, 400_000_000)
    stopped = executor.plan(400_000_000)
    # From the age on it brakes: 0.45 rad/s at 10 rad/s^2 takes three steps, the smoothing as many.
    assert stopped.end_ns <= 400_000_000 + FROZEN_NS + 7 * PERIOD
    with pytest.raises(SafetyError, match=r"0\.50 s old when it was ready, max_chunk_age is 0\.4 s"):
        executor.add(chunk(wave(0), stamp_ns=0), REST, now_ns=500_000_000)


def test_expired_chunk_is_refused():
    """A chunk that has ended before it is ready is refused."""
    with pytest.raises(SafetyError, match="nothing of it is left"):
        ChunkExecutor(LIMITS, ASYNCHRONOUS).add(chunk(wave(0)), REST, now_ns=50 * PERIOD)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    executor = ChunkExecutor(LIMITS, ASYNCHRONOUS)
    actions = wave(0)
    actions[7, 1] = value
    with pytest.raises(SafetyError, match="actions: values of joint 'finger' are not finite"):
        executor.add(chunk(actions), REST, now_ns=0)
    with pytest.raises(SafetyError, match="measured joints: values of joint 'arm' are not finite"):
        executor.add(chunk(wave(0)), np.array([value, 0.0]), now_ns=0)
    assert executor.plan(0) is None


def test_a_first_action_far_from_the_robot_is_refused():
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, max_jump_time=0.2))
    with pytest.raises(SafetyError, match=r"the first action is \+0\.600 from the measured position of joint 'arm'"):
        executor.add(chunk(np.tile([0.6, 0.05], (50, 1))), REST, now_ns=0)
    executor.add(chunk(np.tile([0.39, 0.05], (50, 1))), REST, now_ns=0)


def test_moved_robot_and_tracking_error():
    """A robot moved by others at rest is picked up where it is; one that does not follow is stopped.

    Regression: after a rest the first command jumped back to the last one.
    """
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, max_jump_time=0.2))
    executor.add(chunk(np.tile([0.39, 0.05], (10, 1))), REST, now_ns=0)
    executor.plan(0)
    moved = np.array([-0.7, 0.05])
    with pytest.raises(SafetyError, match="the commanded position"):
        executor.add(chunk(np.tile(moved, (10, 1)), 100_000_000), moved, now_ns=100_000_000)
    executor.hold()
    follow(executor, 100_000_000, 10**9)
    executor.observe(moved, 10**9)
    executor.add(chunk(np.tile(moved, (10, 1)), 10**9), moved, now_ns=10**9)
    np.testing.assert_allclose(executor.plan(10**9).positions[0], moved)


@pytest.mark.parametrize(
    ("actions", "culprit"),
    [
        ([[0.0, 0.0], [0.0, 0.2]], "position 0.200 of joint 'finger' at action 1"),
        ([[0.0, 0.0], [0.05, 0.0]], "velocity 2.500 of joint 'arm' at action 0"),
        ([[0.0, 0.0], [0.0, 0.0], [0.01, 0.0]], "acceleration 25.000 of joint 'arm' at action 0"),
    ],
)
def test_limit_policy_reject(actions, culprit):
    """With `limit_policy: reject` a chunk that exceeds a limit is refused, naming joint and limit."""
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, limit_policy="reject"))
    with pytest.raises(SafetyError, match=culprit):
        executor.add(chunk(actions), REST, now_ns=0)
    executor.add(chunk(wave(0)), REST, now_ns=0)


def test_hold_brakes_within_limits():
    """A hold brakes as fast as the limits allow and stays at rest."""
    executor = ChunkExecutor(LIMITS, ASYNCHRONOUS)
    executor.add(chunk(np.linspace(REST, REST + AWAY, 50)), REST, now_ns=0)
    follow(executor, 0, 500_000_000)
    moving = executor.plan(500_000_000)
    assert moving.velocities[0, 0] == pytest.approx(0.9, rel=0.05)
    executor.hold()
    stopping = executor.plan(520_000_000)
    # 0.9 rad/s at 10 rad/s^2: 90 ms, from the next grid point on, and the smoothing.
    assert stopping.end_ns <= 520_000_000 + 90_000_000 + (1 + SMOOTHING_WINDOW) * GRID_NS
    resting = executor.plan(10**9)
    assert resting.at_rest and np.ptp(resting.positions, axis=0).max() == 0


@pytest.mark.parametrize("rate", [5, 10, 20, 25, 50, 100, 250])
@given(st.integers(0, 199), st.floats(0.2, 1.9))
def test_hold_takes_the_braking_time(rate, phase, speed):
    """At every command rate a hold takes at most 50 ms longer than braking as hard as allowed.

    Regression: the smoothing took four periods of the command rate, 0.6 s at 5 Hz.
    """
    executor = ChunkExecutor(LIMITS, replace(ASYNCHRONOUS, period=1 / rate))
    actions = np.linspace([-0.9, 0.0], [-0.9 + speed * 0.98, 0.0], 50)
    executor.add(chunk(actions), actions[0], now_ns=0)
    now_ns = 0
    for now_ns in range(0, 500_000_000, 10**9 // rate):
        executor.plan(now_ns)
    now_ns += phase * 10**9 // rate // 200
    velocity = executor.plan(now_ns).velocities[0, 0]
    executor.hold()
    stopping = executor.plan(now_ns)
    assert_within_limits(stopping)
    assert (stopping.end_ns - now_ns) * 1e-9 <= abs(velocity) / 10.0 + 0.05 + 1e-6


def test_hold_after_a_pause_in_which_the_time_stood_still():
    """A node that was paused, and does not know yet for how long, does not change what the robot has done meanwhile.

    Regression: with simulated time the hold began in the past, and the arm jumped back to where it would have ended.
    """
    executor = ChunkExecutor(LIMITS, ASYNCHRONOUS)
    executor.add(chunk(np.linspace(REST, REST + AWAY, 50)), REST, now_ns=0)
    follow(executor, 0, 300_000_000)
    moving = executor.plan(300_000_000)
    executor.hold()
    stopping = executor.plan(300_000_000, followed_until_ns=3_300_000_000)
    assert not moving.at_rest
    np.testing.assert_allclose(stopping.positions[: len(moving.positions)], moving.positions, atol=1e-9)
    assert np.ptp(stopping.positions[len(moving.positions) - 1 :], axis=0).max() < 1e-9


def test_no_motion_without_chunks():
    """There is no plan before the first chunk and after a reset."""
    executor = ChunkExecutor(LIMITS, ASYNCHRONOUS)
    executor.hold()
    assert executor.plan(0) is None
    executor.add(chunk(wave(0)), REST, now_ns=0)
    executor.reset()
    assert executor.plan(0) is None


def test_clock_jumps_back():
    """When the clock jumps back the robot stops where it is, and resumes with new chunks."""
    executor = ChunkExecutor(LIMITS, ASYNCHRONOUS)
    start = 100 * 10**9
    executor.add(chunk(np.linspace(REST, REST + AWAY, 50), start), REST, start)
    before = follow(executor, start, start + 400_000_000)[-1]
    now_ns = 5 * 10**9
    jumped = executor.plan(now_ns)
    assert_within_limits(jumped)
    np.testing.assert_allclose(jumped.positions[0], before, atol=1e-9)
    assert jumped.stamp_ns == now_ns and jumped.end_ns <= now_ns + FROZEN_NS + 10 * PERIOD
    with pytest.raises(SafetyError, match=r"-95.* s old"):
        executor.add(chunk(wave(0), start), before, now_ns)
    executor.add(chunk(np.tile([0.1, 0.05], (50, 1)), now_ns), before, now_ns + PERIOD)
    np.testing.assert_allclose(follow(executor, now_ns + PERIOD, now_ns + 10**9)[-1], [0.1, 0.05], atol=1e-6)


def test_clock_jumps_ahead():
    """After the clock jumped ahead the robot rests where its last plan ended."""
    executor = ChunkExecutor(LIMITS, ASYNCHRONOUS)
    executor.add(chunk(np.linspace(REST, REST + AWAY, 50)), REST, now_ns=0)
    end = executor.plan(0).positions[-1]
    later = executor.plan(10**12)
    assert later.at_rest
    np.testing.assert_allclose(later.positions[0], end)


def test_speed_scaling_slows_the_motion_and_its_velocity_limit():
    executor = ChunkExecutor(LIMITS, ASYNCHRONOUS)
    executor.speed_scaling = 0.25
    executor.add(chunk(np.linspace(REST, REST + AWAY * 0.4 / 0.9, 20)), REST, now_ns=0)
    positions = follow(executor, 0, 2 * 10**9)
    speeds = np.abs(np.diff(positions[:, 0])) / 0.02
    assert speeds.max() <= 0.25 * 2.0 + 1e-9
    # The way of 0.4 rad that the chunk makes in 0.38 s takes four times as long.
    np.testing.assert_allclose(positions[40, 0], 0.4 * (40 * 0.02) / (19 * 0.08), atol=2e-3)


def test_start_outside_of_limits_by_noise():
    """From a position that is measured outside of the limits by no more than noise, nothing outside is commanded."""
    executor = ChunkExecutor(LIMITS, ASYNCHRONOUS)
    executor.add(chunk(np.tile([0.9, 0.05], (50, 1))), np.array([1.009, 0.1001]), now_ns=0)
    np.testing.assert_allclose(executor.plan(0).positions[0], [1.0, 0.1], atol=1e-9)


def test_start_outside_of_limits():
    """From a position outside of the limits the motion leads back inside."""
    executor = ChunkExecutor(LIMITS, ASYNCHRONOUS)
    outside = np.array([1.5, -0.2])
    executor.add(chunk(np.tile([5.0, 5.0], (50, 1))), outside, now_ns=0)
    positions = follow(executor, 0, 10**9)
    assert (np.diff(positions[:, 0]) <= 1e-9).all() and positions[:, 0].max() <= 1.5
    np.testing.assert_allclose(positions[-1], [1.0, 0.1], atol=1e-6)
