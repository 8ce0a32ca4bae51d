"""Joints that turn without end go the short way, wherever positions are measured and predicted modulo a turn."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.execution.chunk_executor import STRATEGIES, ChunkExecutor, Execution
from pi0_ttnn_ros.execution.safety import CONTINUOUS, Limits
from pi0_ttnn_ros.execution.tracking import TrackingMonitor
from support.obedient_robot import SAMPLING_NS, ObedientRobot

LIMITS = Limits(
    ("wheel", "arm"), np.array([-CONTINUOUS, -4.0]), np.array([CONTINUOUS, 4.0]), np.full(2, 1.0), np.full(2, 5.0)
)
SECOND = 10**9


def wrapped(angle):
    return (angle + np.pi) % (2 * np.pi) - np.pi


class WrappingRobot(ObedientRobot):
    """Measures its first joint from -pi to pi."""

    @property
    def positions(self) -> np.ndarray:
        """Return where it is measured."""
        angle, arm = super().positions
        return np.array([wrapped(angle), arm])


def make_robot(strategy: str, start: float, limit_policy="clamp") -> WrappingRobot:
    execution = Execution(strategy, 0.02, SAMPLING_NS * 1e-9, max_chunk_age=2.0, max_jump_time=0.5)
    return WrappingRobot(ChunkExecutor(LIMITS, execution), np.array([start, 0.0]))


def turn(stamp_ns: int, start: float, speed: float) -> ActionChunk:
    angles = wrapped(start + speed * 0.02 * np.arange(60))
    return ActionChunk(np.stack([angles, 0 * angles], axis=1).astype(np.float32), "", stamp_ns, 0.0)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("direction", [1, -1])
def test_turns_past_pi(strategy, direction):
    """A policy that crosses pi again and again turns on; no joint turns back.

    Regression: at +pi the joint was sent all the way round the other way.
    """
    robot = make_robot(strategy, direction * 3.0)
    angle = direction * 3.0
    while robot.now_ns < 30 * SECOND:
        robot.executor.add(turn(robot.now_ns, angle, direction * 0.5), robot.positions, robot.now_ns)
        robot.run(robot.now_ns + SECOND)
        angle = robot.positions[0]
    path = np.concatenate([plan.positions[:2, 0] for plan in robot.plans]) * direction
    assert (np.diff(path) >= -1e-6).all()
    assert path[-1] - path[0] > 2 * np.pi
    assert all((np.abs(plan.velocities[:, 0]) <= 1.0 + 1e-9).all() for plan in robot.plans)


def test_measured_jump_by_a_turn_is_none():
    """At rest at pi the measured position may be -pi in the next moment: the joint has not moved."""
    robot = make_robot("asynchronous", 3.0)
    robot.executor.add(turn(0, 3.0, 0.3), robot.positions, 0)
    robot.run(SECOND // 2)
    robot.executor.hold()
    robot.run(2 * SECOND)
    rest = robot.plans[-1].positions[-1]
    assert rest[0] > np.pi - 0.2
    for turns in (1, -1, 2):
        measured = rest + turns * 2 * np.pi * LIMITS.continuous
        robot.executor.observe(measured, robot.now_ns)
        chunk = turn(robot.now_ns, rest[0], 0.3)
        robot.executor.add(chunk, measured, robot.now_ns)
        plan = robot.executor.plan(robot.now_ns)
        np.testing.assert_allclose(plan.positions[0], rest, atol=1e-9)
        robot.executor.hold()
        robot.executor.plan(robot.now_ns)


@pytest.mark.parametrize("state", [3.1, -3.1])
def test_guidance_target_in_the_turn_of_the_state(state):
    """The policy is guided towards positions near those that it sees."""
    robot = make_robot("rtc", 3.1)
    robot.executor.add(turn(0, 3.1, 0.5), robot.positions, 0)
    target = robot.executor.guidance_target(100_000_000, np.array([state, 0.0]))
    np.testing.assert_allclose(target.actions[0, 0], state, atol=0.5)
    assert np.abs(np.diff(target.actions[:, 0])).max() < 0.1


def test_robot_that_is_measured_a_turn_off_follows():
    """Past pi a robot that measures -pi is where it was commanded to be."""
    robot, monitor = make_robot("asynchronous", 3.0), TrackingMonitor(LIMITS, set())
    monitor.tolerance = np.full(2, 0.2)
    robot.executor.add(turn(0, 3.0, 0.5), robot.positions, 0)
    while robot.now_ns < SECOND:
        robot.step(SAMPLING_NS)
        monitor.publish(robot.plans[-1])
        monitor.observe(robot.positions, robot.now_ns, robot.now_ns)
        assert not monitor.reason
    assert robot.positions[0] < 0


def test_joints_with_limits_are_not_unwrapped():
    """A joint from -4 to 4 rad is somewhere else after a turn."""
    robot = make_robot("asynchronous", 0.0)
    actions = np.stack([np.zeros(60), np.linspace(0.0, 3.9, 60)], axis=1).astype(np.float32)
    robot.executor.add(ActionChunk(actions, "", 0, 0.0), robot.positions, 0)
    robot.run(5 * SECOND)
    assert robot.positions[1] > 1.0
    assert not LIMITS.continuous[1] and LIMITS.continuous[0]
