"""The thread that moves the robot: it plans and publishes once a period, whatever inference and sensors do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_ros.execution.chunk_executor import ChunkExecutor, Plan
from pi0_ttnn_ros.system.scheduling import Priority, use_realtime_priority

# The robot may take this much longer than planned to come to rest, seconds.
REST_MARGIN = 0.5

_Result = TypeVar("_Result")


class Output(Protocol):
    """A controller of some of the joints."""

    @property
    def pending(self) -> bool:
        """Whether the last plan has yet to reach the controller, although the robot rests: publish it again."""

    def publish(self, plan: Plan) -> None:
        """Command the motion from now on."""


class CommandLoop:
    """Owns the executor and the outputs. Starts shut: no chunk is taken and nothing is published until `open`.

    Every plan is published up to and including the one in which the robot comes to rest; then nothing is published
    until there is motion again, except to an output that is pending or failed. While anything fails the robot holds.
    Thread-safe.
    """

    def __init__(
        self,
        executor: ChunkExecutor,
        outputs: Sequence[Output],
        now_ns: Callable[[], int],
        period: float,
        may_move: Callable[[], bool],
        measured: Callable[[], tuple[np.ndarray, int] | None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Start the thread.

        Args:
            executor: makes the plans.
            outputs: where they are published.
            now_ns: the robot's clock.
            period: seconds between two plans.
            may_move: called once a period. If it returns False the robot holds, and resumes with the first chunk after
                it returns True.
            measured: called once a period; returns the newest measured positions [joints], rad or m, and their time in
                ns; None if there are none that can be used.
            on_error: called with what planning, publishing, `may_move` or `measured` raised.
        """
        self._executor = executor
        self._outputs = outputs
        self._now_ns = now_ns
        self._period = period
        self._may_move = may_move
        self._measured = measured
        self._on_error = on_error
        self._lock = threading.RLock()
        self._open = False
        self._silent = True
        self._dry = False
        self._repeated = False
        self._planned_ns = 0
        self._planned_monotonic_ns = time.monotonic_ns()
        self._planned_positions = np.empty((0, 0))
        # What raised the last time -> what it raised; outputs, or names of the loop's own steps.
        self._failures: dict[object, str] = {}
        self._hold_requested = False
        self._resting = threading.Event()
        self._resting.set()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="command", daemon=True)
        self._thread.start()

    @property
    def moving(self) -> bool:
        """Whether a motion is being commanded, and the time in which it takes place runs."""
        return self._open and not self._resting.is_set() and not self._repeated

    @property
    def at_rest(self) -> bool:
        """Whether the robot was commanded to rest and nothing is published."""
        return self._resting.is_set()

    def open(self, dry: bool) -> None:
        """Start to take chunks. `dry`: publish nothing; it can change only while the robot rests.

        The first motion starts at the measured positions, or continues the one that is still coming to rest.
        """
        with self._lock:
            if self._resting.is_set():
                self._executor.reset()
            self._open, self._silent, self._dry = True, False, dry

    def stop(self) -> None:
        """Take no chunk until `open`, and bring the robot to rest; wait for nothing, not even for the lock."""
        self._open = False
        self._wake.set()

    def shut(self) -> None:
        """Stop, and return once the hold is published, after which nothing else is."""
        self.stop()
        with self._lock:
            plan = None if self._resting.is_set() else self._attempt("step", self._step)
        if plan is not None:
            remaining = (plan.end_ns - plan.stamp_ns) * 1e-9
            self._resting.wait(remaining + REST_MARGIN)
        with self._lock:
            self._resting.set()  # even if a clock that stands still does not let it come to rest
            self._silent = True

    @property
    def failure(self) -> str:
        """Why the robot is not commanded as planned; empty if it is."""
        return next(iter([*self._failures.values()]), "")

    def add(self, chunk: ActionChunk, measured: np.ndarray) -> None:
        """Execute a chunk, see `ChunkExecutor.add`. Does nothing while the loop is shut or the robot has to hold."""
        with self._lock:
            if self._prepare_plan():
                self._executor.add(chunk, measured, self._now_ns())
                self._attempt("step", self._publish_plan)

    def hold(self) -> None:
        """Stop, and resume with the next chunk; wait for nothing, not even for the lock."""
        self._hold_requested = True
        self._wake.set()

    def wants_chunk(self) -> bool:
        """Return whether to infer now."""
        with self._lock:
            return self._open and self._executor.wants_chunk(self._now_ns())

    def guidance_target(self, stamp_ns: int, state: np.ndarray) -> GuidanceTarget | None:
        """Return what a chunk from an observation must agree with, see `ChunkExecutor.guidance_target`."""
        with self._lock:
            return self._executor.guidance_target(stamp_ns, state)

    def set_speed_scaling(self, scaling: float) -> None:
        """Change the speed, see `ChunkExecutor.speed_scaling`."""
        with self._lock:
            self._executor.speed_scaling = scaling

    def close(self) -> None:
        """Bring the robot to rest and end the thread."""
        self.shut()
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        use_realtime_priority(Priority.COMMANDS)
        due = time.monotonic()
        while not self._closing.is_set():
            self._wake.wait(max(0.0, due - time.monotonic()))
            self._wake.clear()
            now = time.monotonic()
            # Even when late, leave others time to take the lock, which is not a fair one.
            due = max(min(due, now) + self._period, now + self._period / 2)
            with self._lock:
                self._attempt("step", self._step_if_due)

    def _attempt(self, name: object, call: Callable[[], _Result]) -> _Result | None:
        """Return what `call` returns, None if it raises: no error may end the thread or prevent a shutdown."""
        try:
            result = call()
        except Exception as error:
            self._failures[name] = f"{type(error).__name__}: {error}"
            with suppress(Exception):
                self._on_error(error)
            return None
        self._failures.pop(name, None)
        return result

    def _step_if_due(self) -> None:
        unknown = any(output.pending or output in self._failures for output in self._outputs)
        if self._open or not self._resting.is_set() or (unknown and not self._silent):
            self._step()

    def _step(self) -> Plan | None:
        self._prepare_plan()
        return self._publish_plan()

    def _prepare_plan(self) -> bool:
        """Observe the robot, and let it hold if it has to; return whether it may move."""
        measured = self._attempt("measured", self._measured)
        if measured is not None:
            self._executor.observe(*measured)
        may_move = self._open and bool(self._attempt("may_move", self._may_move)) and not self._failures
        if self._hold_requested or not may_move:
            self._hold_requested = False
            self._executor.hold()
        return may_move

    def _publish_plan(self) -> Plan | None:
        now_ns, monotonic_ns = self._now_ns(), time.monotonic_ns()
        # After a pause the node may not know yet what time it is, but the robot has been following the last plan.
        plan = self._executor.plan(now_ns, self._planned_ns + monotonic_ns - self._planned_monotonic_ns)
        if plan is None:
            self._resting.set()
            return None
        # While a simulated time stands still, the controllers do not need the same plan again.
        self._repeated = now_ns == self._planned_ns and np.array_equal(plan.positions, self._planned_positions)
        self._planned_ns, self._planned_monotonic_ns, self._planned_positions = now_ns, monotonic_ns, plan.positions
        is_known = self._repeated or (self._resting.is_set() and plan.at_rest)
        for output in self._outputs if not self._dry else ():
            failed = output in self._failures
            self._attempt(output, partial(self._command, output, plan, is_known and not failed))
            if output in self._failures and not failed:
                self._wake.set()  # so that the others hold at once
        if plan.at_rest:
            self._resting.set()
        else:
            self._resting.clear()
        return plan

    def _command(self, output: Output, plan: Plan, is_known: bool) -> None:
        if output.pending or not is_known:
            output.publish(plan)
