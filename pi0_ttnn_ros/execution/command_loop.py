"""The thread that moves the robot: it plans and publishes once a period, whatever inference and sensors do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_ros.execution.chunk_executor import ChunkExecutor, Plan
from pi0_ttnn_ros.system.scheduling import Priority, use_realtime_priority

# The robot may take this much longer than planned to come to rest, seconds.
REST_MARGIN = 0.5


class Output(Protocol):
    """A controller of some of the joints."""

    @property
    def pending(self) -> bool:
        """Whether the last plan has yet to reach the controller, although the robot rests: publish it again."""

    def publish(self, plan: Plan) -> None:
        """Command the motion from now on."""


class CommandLoop:
    """Owns the executor and the outputs. Starts shut: no chunk is taken and nothing is published until `open`.

    While it is open, every plan is published up to and including the one in which the robot comes to rest; then nothing
    is published until there is motion again, except to an output that is pending. Thread-safe.
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
            on_error: called when planning or publishing raised. The robot holds and the loop continues.
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
        self._dry = False
        self._resting = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="command", daemon=True)
        self._thread.start()

    @property
    def moving(self) -> bool:
        """Whether a motion is being commanded."""
        return self._open and not self._resting.is_set()

    def open(self, dry: bool) -> None:
        """Start to take chunks; the first motion starts at the measured positions. `dry`: publish nothing."""
        with self._lock:
            self._executor.reset()
            self._resting.set()
            self._open, self._dry = True, dry

    def shut(self) -> None:
        """Bring the robot to rest; return once the hold is published, after which nothing else is."""
        with self._lock:
            if not self._open:
                return
            self._executor.hold()
            plan = self._reporting_errors(self._publish_plan)
        if plan is not None:
            remaining = (plan.end_ns - plan.stamp_ns) * 1e-9
            self._resting.wait(remaining + REST_MARGIN)
        with self._lock:
            self._open = False

    def add(self, chunk: ActionChunk, measured: np.ndarray) -> None:
        """Execute a chunk, see `ChunkExecutor.add`. Does nothing while the loop is shut or the robot has to hold."""
        with self._lock:
            if self._open and self._may_move():
                self._observe()
                self._executor.add(chunk, measured, self._now_ns())
                self._publish_plan()

    def hold(self) -> None:
        """Stop, and resume with the next chunk."""
        with self._lock:
            self._executor.hold()

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
        self._thread.join()

    def _run(self) -> None:
        use_realtime_priority(Priority.COMMANDS)
        due = time.monotonic()
        while not self._closing.wait(max(0.0, due - time.monotonic())):
            # Even when late, leave others time to take the lock, which is not a fair one.
            due = max(due + self._period, time.monotonic() + self._period / 2)
            with self._lock:
                if self._open:
                    self._reporting_errors(self._step)

    def _reporting_errors(self, step: Callable[[], Plan | None]) -> Plan | None:
        """Return the plan of `step`, None if it raised: no error may end the thread or prevent a shutdown."""
        try:
            return step()
        except Exception as error:
            self._executor.hold()
            self._on_error(error)
            return None

    def _step(self) -> Plan | None:
        self._observe()
        if not self._may_move():
            self._executor.hold()
        return self._publish_plan()

    def _observe(self) -> None:
        measured = self._measured()
        if measured is not None:
            self._executor.observe(*measured)

    def _publish_plan(self) -> Plan | None:
        plan = self._executor.plan(self._now_ns())
        if plan is None:
            self._resting.set()
            return None
        stays_at_rest = self._resting.is_set() and plan.at_rest
        for output in self._outputs:
            if not self._dry and (output.pending or not stays_at_rest):
                output.publish(plan)
        if plan.at_rest:
            self._resting.set()
        else:
            self._resting.clear()
        return plan
