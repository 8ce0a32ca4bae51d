"""A robot that follows its commands is told from one that does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.execution.chunk_executor import ChunkExecutor, Execution
from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.execution.tracking import LAG_NS, PAUSE_NS, TrackingMonitor

PERIOD_NS = 20_000_000
START_NS = 10**15
TOLERANCE = 0.2
LIMITS = Limits(("arm", "jaw"), np.full(2, -2.0), np.full(2, 2.0), np.full(2, 1.0), np.full(2, 5.0))


def wandering(rng: np.random.Generator) -> np.ndarray:
    """Return a chunk [50, joints] that goes to and fro at all speeds."""
    return np.cumsum(rng.normal(0.0, 0.05, (50, 2)), axis=0).clip(-1.5, 1.5).astype(np.float32)


def played(
    position: Callable[[list[tuple[int, np.ndarray]], int], np.ndarray], seconds: float = 20.0, gripper: str = "jaw"
) -> tuple[TrackingMonitor, list[tuple[int, str]]]:
    """Drive a robot that is at `position(commands so far, now)`; return the monitor and its reasons over time."""
    rng = np.random.default_rng(0)
    execution = Execution("asynchronous", 0.02, 0.02, max_chunk_age=2.0, max_jump_time=1e3)
    executor, monitor = ChunkExecutor(LIMITS, execution), TrackingMonitor(LIMITS, {gripper})
    monitor.tolerance = np.array([TOLERANCE, np.inf])
    commanded: list[tuple[int, np.ndarray]] = [(START_NS, np.zeros(2))]
    reasons: list[tuple[int, str]] = []
    for now_ns in range(START_NS, START_NS + round(seconds * 1e9), PERIOD_NS):
        if (now_ns - START_NS) % 300_000_000 == 0:
            executor.add(ActionChunk(wandering(rng), "wander", now_ns, 0.1), commanded[-1][1], now_ns)
        plan = executor.plan(now_ns)
        assert plan is not None
        monitor.publish(plan)
        commanded.append((now_ns, plan.positions[0]))
        monitor.observe(position(commanded, now_ns), now_ns, now_ns)
        if monitor.reason:
            reasons.append((now_ns, monitor.reason))
    return monitor, reasons


def at(commanded: list[tuple[int, np.ndarray]], time_ns: int) -> np.ndarray:
    """Return what was commanded at a time."""
    return next((position for stamp_ns, position in reversed(commanded) if stamp_ns <= time_ns), commanded[0][1])


@pytest.mark.parametrize("lag", [0.0, 0.1, 0.2, 0.28])
@pytest.mark.parametrize("offset", [-0.15, 0.0, 0.15])
def test_robot_that_lags(lag, offset):
    """A robot that is late, by a constant too, and a gripper that never moves, are no reason to hold."""

    def position(commanded, now_ns):
        return np.array([at(commanded, now_ns - round(lag * 1e9))[0] + offset, 0.3])

    assert played(position)[1] == []


def test_blocked_joint():
    """A joint that stands still is noticed before the motion is farther away than tolerance and lag together."""
    seen = []

    def position(commanded, now_ns):
        seen.append((now_ns, np.abs([each[0] for _, each in commanded]).max()))
        return np.zeros(2)

    _, reasons = played(position)
    assert "joint 'arm' does not follow" in reasons[0][1] and "max_tracking_error is 0.200" in reasons[0][1]
    (farthest,) = (distance for now_ns, distance in seen if now_ns == reasons[0][0])
    assert TOLERANCE < farthest <= TOLERANCE + 1.0 * (LAG_NS + PERIOD_NS) * 1e-9


def one_motion(position: Callable[[np.ndarray, int], np.ndarray]) -> list[tuple[int, str]]:
    """Return the reasons over 5 s of a motion that takes less than two: of a robot at `position(commanded, now)`."""
    monitor = TrackingMonitor(LIMITS, ())
    monitor.tolerance = np.full(2, TOLERANCE)
    executor = ChunkExecutor(LIMITS, Execution("asynchronous", 0.02, 0.02, max_chunk_age=2.0, max_jump_time=1e3))
    executor.add(ActionChunk(np.full((50, 2), 0.8, np.float32), "go", START_NS, 0.1), np.zeros(2), START_NS)
    reasons = []
    for now_ns in range(START_NS, START_NS + 5 * 10**9, PERIOD_NS):
        plan = executor.plan(now_ns)
        assert plan is not None
        monitor.publish(plan)
        monitor.observe(position(plan.positions[0], now_ns), now_ns, now_ns)
        reasons.append((now_ns, monitor.reason))
    return reasons


def test_reason_ends_after_a_pause():
    """The reason to hold lasts a while and ends, so that the motion is tried again."""
    failing_ns = [now_ns for now_ns, reason in one_motion(lambda *_: np.zeros(2)) if reason]
    assert failing_ns[-1] - failing_ns[0] == PAUSE_NS - PERIOD_NS


def test_robot_at_rest_is_moved():
    """Others may move a robot at rest."""
    reasons = one_motion(lambda commanded, now_ns: commanded + (now_ns > START_NS + 3 * 10**9))
    assert not any(reason for _, reason in reasons)


def test_commanded_motion():
    """A motion is one of more than noise, at the time that is asked for; one of a gripper alone does not count."""
    monitor, _ = played(lambda commanded, now_ns: at(commanded, now_ns))
    end_ns = int(monitor._commanded[0][-1])
    assert monitor.commanded_motion(end_ns - 2 * 10**9, end_ns)
    assert not monitor.commanded_motion(end_ns, end_ns + 10**9)
    assert not TrackingMonitor(LIMITS, ()).commanded_motion(START_NS, end_ns)
    grippers_only, _ = played(lambda commanded, now_ns: at(commanded, now_ns))
    grippers_only.noise[:] = np.inf
    assert not grippers_only.commanded_motion(end_ns - 2 * 10**9, end_ns)
