"""Joints that are commanded by single positions: no command is a jump, however late it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.aloha.trajectory_follower import TrajectoryFollower, Waypoints
from pi0_ttnn_ros.execution.chunk_executor import ChunkExecutor, Execution
from pi0_ttnn_ros.execution.safety import Limits, SafetyError

LIMITS = Limits(("stepped", "planned"), *(np.full(2, value) for value in (-2.0, 2.0, 1.5, 5.0)))
REST = np.zeros(2)
MS = 10**6


def make_executor(period=0.02) -> ChunkExecutor:
    execution = Execution("asynchronous", 0.02, period, max_chunk_age=5.0, max_jump_time=1e3, stepped_joints=(0,))
    return ChunkExecutor(LIMITS, execution)


def ramp(stamp_ns: int, speed: float, start: float = 0.0) -> ActionChunk:
    actions = start + speed * 0.02 * np.arange(100)
    return ActionChunk(np.repeat(actions[:, None], 2, axis=1).astype(np.float32), "", stamp_ns, 0.0)


@pytest.mark.parametrize("stall", [0.1, 0.2, 0.3, 2.0])
@pytest.mark.parametrize("rate", [25, 50, 100, 250])
def test_stalled_node(stall, rate):
    """After a stall the commands go on from the last one, at rest, and catch up within the limits.

    Regression: after 0.3 s the next command was 0.30 rad away, ten times what the maximum velocity allows.
    """
    period_ns = 10**9 // rate
    executor = make_executor(1 / rate)
    executor.add(ramp(0, 1.4, -1.4), np.full(2, -1.4), 0)
    now_ns, sent = 0, []
    while now_ns < 600 * MS:
        sent.append(executor.plan(now_ns).next_positions[0])
        now_ns += period_ns
    before = len(sent)
    now_ns += int(stall * 1e9) - period_ns
    while now_ns < 3000 * MS:
        sent.append(executor.plan(now_ns).next_positions[0])
        now_ns += period_ns
    steps = np.diff(sent)
    assert np.abs(steps).max() <= 1.5 / rate + 1e-9
    # At rest when it was late, the joint starts as its acceleration allows.
    changes = np.diff(np.concatenate([[0.0], steps[before - 1 :]]))
    assert np.abs(changes).max() <= 5.0 / rate**2 + 1e-9
    if stall < 1:
        np.testing.assert_allclose(sent[-1], 1.4 * 0.02 * 99 - 1.4, atol=1e-3)


gaps = st.one_of(st.integers(10, 30), st.integers(0, 400))
targets = st.one_of(st.none(), st.just("hold"), st.floats(-2, 2))


@pytest.mark.parametrize("period_ms", [10, 20, 50, 200])
@settings(max_examples=100)
@given(st.lists(st.tuples(gaps, targets), min_size=1, max_size=60))
def test_no_command_is_a_jump(period_ms, history):
    """For any history of calls a command is at most a period at maximum velocity from the last one.

    A joint that follows the plan by itself goes on continuously meanwhile.
    """
    executor = make_executor(period_ms * 1e-3)
    follower = TrajectoryFollower(REST)
    now_ns, last = 10**9, REST
    for gap, happening in history:
        now_ns += gap * MS
        measured = np.array([last[0], follower.sample(now_ns)[0][1]])
        executor.observe(measured, now_ns)
        if happening == "hold":
            executor.hold()
        elif happening is not None:
            try:
                chunk = ActionChunk(np.full((50, 2), happening, np.float32), "", now_ns - 100 * MS, 0.0)
                executor.add(chunk, measured, now_ns)
            except SafetyError as error:
                assert "commanded position" in str(error)
        plan = executor.plan(now_ns)
        if plan is None:
            continue
        assert np.abs(plan.next_positions - last)[0] <= 1.5e-3 * period_ms + 1e-9
        last = plan.next_positions
        position, velocity = follower.sample(now_ns)
        waypoints = Waypoints(plan.stamp_ns, plan.times_ns, plan.positions, plan.velocities)
        follower = TrajectoryFollower(plan.positions[0])
        follower.replace(waypoints, plan.stamp_ns - 1)
        there = follower.sample(now_ns)
        np.testing.assert_allclose([there[0][1], there[1][1]], [position[1], velocity[1]], atol=1e-7)
        assert (np.abs(plan.velocities) <= 1.5 + 1e-9).all() and not plan.velocities[-1].any()
        assert (np.abs(np.diff(plan.velocities, axis=0)) <= 5.0 * 0.01 * (1 + 1e-6)).all()


def test_evenly_sent_commands_are_the_plan():
    """On time, each command is where the plan is one period later."""
    executor = make_executor()
    executor.add(ramp(0, 1.0), REST, 0)
    for now_ns in range(0, 10**9, 20 * MS):
        plan = executor.plan(now_ns)
        ahead = plan.positions[np.searchsorted(plan.times_ns, now_ns + 20 * MS - plan.stamp_ns)]
        np.testing.assert_allclose(plan.next_positions, ahead, atol=1e-9)
