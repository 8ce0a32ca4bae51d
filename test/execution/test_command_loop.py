"""The command loop's thread: errors in it are reported, the robot holds, and the loop continues."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.execution.chunk_executor import ChunkExecutor, Execution
from pi0_ttnn_ros.execution.command_loop import CommandLoop
from pi0_ttnn_ros.execution.safety import Limits
from support.waiting import wait_until

LIMITS = Limits(("arm",), *(np.array([value]) for value in (-1.0, 1.0, 2.0, 10.0)))
REST = np.array([0.0])


class Output:
    """Keeps the plans; raises while it is broken."""

    def __init__(self) -> None:
        self.plans = []
        self.broken = False
        self.pending = False

    def publish(self, plan) -> None:
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
