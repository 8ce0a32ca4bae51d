"""A motion that starts from rest starts where the robot is, judged by the speed of a robot that obeys at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.execution.chunk_executor import GRID_NS, STRATEGIES, ChunkExecutor, Execution
from pi0_ttnn_ros.execution.safety import Limits, SafetyError
from support.obedient_robot import SAMPLING_NS, ObedientRobot

LIMITS = Limits(("arm", "wrist"), *(np.full(2, value) for value in (-2.0, 2.0, 1.0, 5.0)))
SECOND = 10**9
REST = np.zeros(2)


def make_robot(strategy="asynchronous", sag=0.0, lag=0.0) -> ObedientRobot:
    execution = Execution(strategy, 0.02, SAMPLING_NS * 1e-9, max_chunk_age=2.0, max_jump_time=1e3)
    return ObedientRobot(ChunkExecutor(LIMITS, execution), REST, sag, lag)


def follow(robot: ObedientRobot, target: np.ndarray) -> None:
    """Give the executor a chunk from where the robot is to `target` at half of the maximum velocity."""
    way = target - robot.positions
    points = int(np.abs(way).max() / 0.01) + 10
    fractions = np.clip(np.arange(points) / (points - 9), 0, 1)[:, None]
    actions = (robot.positions + fractions * way).astype(np.float32)
    robot.executor.add(ActionChunk(actions, "", robot.now_ns, 0.0), robot.positions, robot.now_ns)


@pytest.mark.parametrize("rest", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("way", [0.05, 0.43, -0.6])
def test_moved_during_a_hold(rest, way):
    """After a hold in which others moved the arm it goes on from there.

    Regression: the next plan began where the arm had come to rest, and the arm jumped back at up to 24 rad/s.
    """
    robot = make_robot()
    follow(robot, np.array([0.8, 0.3]))
    robot.run(SECOND)
    robot.executor.hold()
    robot.run(robot.now_ns + int((0.4 + rest) * SECOND))
    robot.move(robot.positions + np.array([way, 0.0]))
    robot.run(robot.now_ns + int(0.2 * SECOND))
    there, published = robot.positions, len(robot.plans)
    follow(robot, there + np.array([0.2, 0.0]))
    assert robot.run(robot.now_ns + SECOND) <= 1.0 + 1e-9
    np.testing.assert_allclose(robot.plans[published].positions[0], there, atol=1e-6)
    np.testing.assert_allclose(robot.positions[0], there[0] + 0.2, atol=1e-3)


def test_moved_while_the_chunk_rests():
    """A chunk that rests first and moves later starts where the arm is then."""
    robot = make_robot()
    actions = np.repeat([[0.0, 0.0], [0.2, 0.0]], [50, 20], axis=0).astype(np.float32)
    robot.executor.add(ActionChunk(actions, "", 0, 0.0), REST, 0)
    robot.run(SECOND // 2)
    robot.move(np.array([-0.4, 0.1]))
    assert robot.run(2 * SECOND) <= 1.0 + 1e-9
    np.testing.assert_allclose(robot.positions, [0.2, 0.0], atol=1e-3)


def steps_after_holds(robot, count, reach, motion, hold):
    """Return from where each hold ended to where the next motion starts [count - 1, joints].

    Each motion follows a random target within `reach` for `motion` seconds, and is held for `hold` seconds.
    """
    random = np.random.default_rng(0)
    steps = []
    for _ in range(count):
        follow(robot, random.uniform(-reach, reach, 2))
        published = len(robot.plans)
        robot.run(robot.now_ns + int(motion * SECOND))
        if published:
            steps.append(robot.plans[published].positions[0] - robot.plans[published - 1].positions[-1])
        robot.executor.hold()
        robot.run(robot.now_ns + int(hold * SECOND))
    return steps


@pytest.mark.parametrize("hold", [0.3, 0.6, 1.5])
def test_steady_state_error_does_not_add_up(hold):
    """An arm that sags by 0.03 rad goes on from its command after each of 200 holds, not from 0.03 rad below it."""
    robot = make_robot(sag=0.03)
    steps = steps_after_holds(robot, 200, reach=0.1, motion=0.3, hold=hold)
    assert all(plan.at_rest for plan in robot.plans[-1:]) and len(steps) == 199
    assert np.abs(steps).max() <= 1e-9


def test_arm_that_springs_back():
    """An arm that is pushed and springs back starts from its command, not from where it sags to."""
    robot = make_robot(sag=0.03)
    follow(robot, np.array([0.5, 0.2]))
    robot.run(SECOND)
    robot.executor.hold()
    robot.run(3 * SECOND)
    there, commanded = robot.positions, robot.plans[-1].positions[-1]
    robot.move(there + 0.3)
    robot.run(4 * SECOND)
    robot.move(there)
    robot.run(5 * SECOND)
    published = len(robot.plans)
    follow(robot, np.array([0.1, 0.1]))
    robot.run(6 * SECOND)
    np.testing.assert_allclose(robot.plans[published].positions[0], commanded, atol=1e-9)


@pytest.mark.parametrize("sag", [0.03, -0.03])
def test_robot_that_lags_and_sags(sag):
    """The error of an arm that follows with a delay is known once it has settled above or below; it does not add up."""
    robot = make_robot(sag=sag, lag=0.08)
    steps = steps_after_holds(robot, 60, reach=0.2, motion=0.5, hold=1.0)
    assert np.abs(steps[5:]).max() <= 1e-9


@pytest.mark.parametrize("way", [0.03, 0.045, -0.03])
def test_moved_again_and_again_while_nothing_is_measured(way):
    """An arm that is moved by the same little way, while its driver restarts, is not taken for one that sags."""
    robot = make_robot()
    for _ in range(5):
        follow(robot, robot.positions + 0.2)
        robot.run(robot.now_ns + SECOND // 2)
        robot.executor.hold()
        robot.executor.plan(robot.now_ns)
        robot.now_ns += SECOND // 2
        robot.move(robot.executor.plan(robot.now_ns).positions[0] + way)
        robot.run(robot.now_ns + SECOND)
        there, published = robot.positions, len(robot.plans)
        follow(robot, there - 0.2)
        assert robot.run(robot.now_ns + SECOND // 4) <= 1.0 + 1e-9
        np.testing.assert_allclose(robot.plans[published].positions[0], there, atol=1e-6)
        robot.executor.hold()
        robot.run(robot.now_ns + SECOND)


def test_where_the_robot_was_before_it_came_to_rest():
    """A position that was measured while the arm still moved is not taken for one to which others moved it."""
    robot = make_robot()
    follow(robot, np.array([0.8, 0.3]))
    robot.run(SECOND // 2)
    underway, stamp_ns = robot.positions, robot.now_ns
    robot.executor.hold()
    robot.executor.plan(robot.now_ns)
    now_ns = robot.now_ns + SECOND
    rest = robot.executor.plan(now_ns).positions[0]
    assert np.abs(rest - underway).max() > 0.03
    robot.executor.observe(underway, stamp_ns)
    robot.executor.add(ActionChunk(np.tile(rest + 0.1, (50, 1)).astype(np.float32), "", now_ns, 0.0), rest, now_ns)
    np.testing.assert_allclose(robot.executor.plan(now_ns).positions[0], rest, atol=1e-9)


def test_slow_joint_has_a_smaller_tolerance():
    """What counts as moved is a matter of the joint's speed: 10 mm of a gripper that moves at 0.1 m/s do."""
    limits = Limits(("gripper",), *(np.array([value]) for value in (0.0, 0.1, 0.1, 1.0)))
    robot = ObedientRobot(ChunkExecutor(limits, Execution("asynchronous", 0.02, 0.02, 2.0, 1e3)), np.array([0.05]))
    follow(robot, np.array([0.06]))
    robot.run(SECOND)
    robot.executor.hold()
    robot.run(2 * SECOND)
    robot.move(np.array([0.05]))
    robot.run(2 * SECOND + 2 * SAMPLING_NS)
    follow(robot, np.array([0.06]))
    assert robot.run(3 * SECOND) <= 0.1 + 1e-9


happenings = st.lists(
    st.tuples(
        st.integers(15, 400),  # ms until it happens
        st.one_of(
            st.just("hold"),
            st.tuples(st.just("move"), st.floats(-1, 1), st.floats(-1, 1)),
            st.tuples(st.just("chunk"), st.floats(-2, 2), st.floats(-2, 2)),
        ),
    ),
    max_size=25,
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=100)
@given(happenings)
def test_no_history_of_holds_and_moves_makes_the_robot_jump(strategy, history):
    """Whatever happens, each plan starts where the robot is; from rest within 0.02 rad."""
    robot = make_robot(strategy)
    for wait, happening in history:
        end_ns = robot.now_ns + wait * 10**6
        while robot.now_ns < end_ns:
            before, published = robot.positions, len(robot.plans)
            robot.step(SAMPLING_NS)
            if len(robot.plans) > published:
                plan = robot.plans[-1]
                assert np.abs(plan.positions[0] - before).max() <= 0.02 + SAMPLING_NS * 1e-9 * 1.0 + 1e-9
                assert (np.abs(plan.velocities) <= 1.0 + 1e-9).all()
                assert (np.abs(np.diff(plan.velocities, axis=0)) <= 5.0 * GRID_NS * 1e-9 * (1 + 1e-6)).all()
        if happening == "hold":
            robot.executor.hold()
        elif happening[0] == "chunk":
            try:
                follow(robot, np.array(happening[1:]))
            except SafetyError as error:
                assert "nothing of it is left" in str(error)
        elif not robot.plans or robot.plans[-1].at_rest:
            robot.move(np.clip(robot.positions + happening[1:], -2, 2))
