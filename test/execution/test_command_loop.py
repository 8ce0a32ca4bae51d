"""The command loop's thread: errors in it are reported, the robot holds, and the loop continues."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.execution.chunk_executor import ChunkExecutor, Execution
from pi0_ttnn_ros.execution.command_loop import CommandLoop
from pi0_ttnn_ros.execution.safety import Limits
from support.waiting import TIMEOUT, wait_until

LIMITS = Limits(("arm",), *(np.array([value]) for value in (-1.0, 1.0, 2.0, 10.0)))
REST = np.array([0.0])


class Output:
    """Keeps the plans; raises while it is broken, and returns only while it is free."""

    def __init__(self) -> None:
        self.plans = []
        self.broken = False
        self.pending = False
        self.free = threading.Event()
        self.free.set()

    def publish(self, plan) -> None:
        self.free.wait()
        if self.broken:
            raise KeyError("no such publisher")
        self.plans.append(plan)


@pytest.fixture
def output():
    return Output()


@pytest.fixture
def errors():
    return []


@pytest.fixture
def loop(output, errors):
    executor = ChunkExecutor(LIMITS, Execution("asynchronous", 0.02, 0.02, max_chunk_age=5.0, max_jump_time=10.0))
    loop = CommandLoop(
        executor, [output], time.monotonic_ns, 0.02, lambda: True, lambda: (REST, time.monotonic_ns()), errors.append
    )
    loop.open(dry=False)
    yield loop
    output.broken = False
    loop.close()


def chunk(end: float) -> ActionChunk:
    return ActionChunk(np.linspace(0.0, end, 200, dtype=np.float32)[:, None], "", time.monotonic_ns(), 0.0)


def test_failing_output_is_reported(loop, output, errors):
    """An output that raises is reported; when it works again, the next chunk is executed."""
    loop.add(chunk(0.5), REST)
    wait_until(lambda: output.plans and not output.plans[-1].at_rest, "a motion")
    output.broken = True
    wait_until(lambda: len(errors) > 1, "errors")
    assert all(isinstance(error, KeyError) and error.__traceback__ for error in errors)
    output.broken = False
    wait_until(lambda: output.plans[-1].at_rest, "rest")
    taken = len(output.plans)
    loop.add(chunk(0.5), output.plans[-1].positions[-1])
    wait_until(lambda: any(not plan.at_rest for plan in output.plans[taken:]), "a motion")


def test_failing_output_does_not_prevent_shut(loop, output, errors):
    """The loop can be shut while an output raises."""
    loop.add(chunk(0.5), REST)
    output.broken = True
    loop.shut()
    assert errors and not loop.wants_chunk()


def test_pending_output_receives_plans_at_rest(loop, output):
    """An output that is pending receives the plan at rest again and again, until it is not pending any more."""
    loop.add(chunk(0.1), REST)
    wait_until(lambda: output.plans, "a motion")
    output.pending = True
    loop.hold()
    wait_until(lambda: len(output.plans) > 3 and all(plan.at_rest for plan in output.plans[-3:]), "plans at rest")
    output.pending = False
    loop.add(chunk(0.1), REST)
    wait_until(lambda: not output.plans[-1].at_rest, "a motion")
    loop.shut()
    assert output.plans[-1].at_rest and not output.plans[-2].at_rest


def test_stop_waits_for_nothing(loop, output):
    """The loop is stopped although an output hangs; once it returns the robot comes to rest and no chunk is taken."""
    loop.add(chunk(0.5), REST)
    wait_until(lambda: output.plans and not output.plans[-1].at_rest, "a motion")
    output.free.clear()
    loop.stop()
    assert not loop.moving and not loop.at_rest
    output.free.set()
    wait_until(lambda: loop.at_rest, "rest")
    assert output.plans[-1].at_rest
    count = len(output.plans)
    loop.add(chunk(0.5), REST)
    loop.shut()
    assert len(output.plans) == count


def test_motion_continues_after_a_short_stop(loop, output):
    """Opened again while it comes to rest, the loop continues the motion that is being commanded."""
    loop.add(chunk(0.5), REST)
    wait_until(lambda: output.plans and output.plans[-1].velocities[0].any(), "a motion")
    loop.stop()
    before = len(output.plans)
    loop.open(dry=False)
    wait_until(lambda: len(output.plans) > before, "a plan")
    assert output.plans[before].velocities[0].any()


class Conditions:
    """What a loop asks and reports; each may raise."""

    def __init__(self) -> None:
        self.may_move = True
        self.fault = ""
        self.errors = []

    def ask_may_move(self) -> bool:
        if self.fault == "may_move":
            raise RuntimeError("nobody knows")
        return self.may_move

    def ask_measured(self):
        if self.fault == "measured":
            raise RuntimeError("nobody measures")
        return REST, time.monotonic_ns()

    def report(self, error) -> None:
        self.errors.append(error)
        raise RuntimeError("nobody listens")


@pytest.fixture
def conditions():
    return Conditions()


def make_loop(outputs, conditions, period=0.02):
    execution = Execution("asynchronous", 0.02, period, max_chunk_age=5.0, max_jump_time=10.0)
    loop = CommandLoop(
        ChunkExecutor(LIMITS, execution),
        outputs,
        time.monotonic_ns,
        period,
        conditions.ask_may_move,
        conditions.ask_measured,
        conditions.report,
    )
    loop.open(dry=False)
    return loop


def test_chunk_that_arrives_during_a_hold_is_dropped(conditions, output):
    """A chunk that arrives while the robot has to hold moves nothing, then or later.

    Regression: it was planned and published without asking whether it may be.
    """
    conditions.may_move = False
    loop = make_loop([output], conditions)
    for _ in range(5):
        loop.add(chunk(0.5), REST)
    conditions.may_move = True
    assert not output.plans and not loop.moving
    loop.add(chunk(0.5), REST)
    wait_until(lambda: output.plans and not output.plans[-1].at_rest, "a motion")
    conditions.may_move = False
    wait_until(lambda: output.plans[-1].at_rest, "rest")
    taken = len(output.plans)
    loop.add(chunk(0.5), REST)
    loop.close()
    assert all(plan.at_rest for plan in output.plans[taken:])


def test_other_outputs_hold_while_one_fails(conditions, output):
    """While an output raises, the others hold; what failed is told until it works again.

    Regression: the outputs after it were not commanded, and the thread ended if the error could not be reported.
    """
    others = [Output(), Output()]
    loop = make_loop([others[0], output, others[1]], conditions)
    loop.add(chunk(0.5), REST)
    wait_until(lambda: all(each.plans and not each.plans[-1].at_rest for each in others), "a motion")
    assert not loop.failure
    output.broken = True
    wait_until(lambda: conditions.errors and all(each.plans[-1].at_rest for each in others), "rest of the others")
    assert loop.failure == "KeyError: 'no such publisher'"
    taken = len(others[0].plans)
    loop.add(chunk(0.5), REST)
    failures = len(conditions.errors)
    wait_until(lambda: len(conditions.errors) > failures + 3, "more tries")
    assert not any(not plan.at_rest for plan in others[0].plans[taken:])
    output.broken = False
    wait_until(lambda: not loop.failure, "no failure")
    assert output.plans[-1].at_rest  # it holds, too
    loop.add(chunk(0.5), REST)
    wait_until(lambda: not output.plans[-1].at_rest, "a motion")
    loop.close()


@pytest.mark.parametrize("fault", ["may_move", "measured"])
def test_failing_condition(conditions, output, fault):
    """Where it cannot be asked whether the robot may move, or where it is, it holds, until it can."""
    loop = make_loop([output], conditions)
    loop.add(chunk(0.5), REST)
    wait_until(lambda: output.plans and not output.plans[-1].at_rest, "a motion")
    conditions.fault = fault
    wait_until(lambda: output.plans[-1].at_rest, "rest")
    assert "nobody" in loop.failure
    conditions.fault = ""
    wait_until(lambda: not loop.failure, "no failure")
    loop.add(chunk(0.5), REST)
    wait_until(lambda: not output.plans[-1].at_rest, "a motion")
    loop.close()


def test_hold_does_not_wait_for_the_period(conditions, output):
    """A hold is published at once, however low the command rate is."""
    loop = make_loop([output], conditions, period=TIMEOUT)
    loop.add(chunk(0.5), REST)
    moving = output.plans[-1]
    assert not moving.at_rest
    loop.hold()
    wait_until(lambda: output.plans[-1] is not moving, "a hold")
    assert output.plans[-1].end_ns < moving.end_ns
    loop.close()


def test_pause_with_simulated_time(conditions, output):
    """While the thread was paused, and /clock has not been received since, the robot came to rest: the hold lets it."""
    execution = Execution("asynchronous", 0.02, 0.02, max_chunk_age=5.0, max_jump_time=10.0)
    executor = ChunkExecutor(LIMITS, execution)
    simulated_ns = time.monotonic_ns()
    conditions.ask_measured = lambda: (REST, simulated_ns)
    loop = CommandLoop(
        executor,
        [output],
        lambda: simulated_ns,
        TIMEOUT,
        conditions.ask_may_move,
        conditions.ask_measured,
        conditions.report,
    )
    loop.open(dry=False)
    loop.add(chunk(0.5), REST)
    moving = output.plans[-1]
    resumed = time.monotonic() + (moving.end_ns - moving.now_ns) * 1e-9
    wait_until(lambda: time.monotonic() > resumed, "the end of the pause")
    loop.hold()
    wait_until(lambda: output.plans[-1] is not moving, "a hold")
    np.testing.assert_allclose(output.plans[-1].positions[-1], moving.positions[-1], atol=1e-9)
    loop.stop()
    simulated_ns += 10**10
    loop.close()
