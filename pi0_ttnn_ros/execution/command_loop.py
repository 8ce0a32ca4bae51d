"""A thread that moves the robot: once a period it plans and publishes, whatever inference and sensors do."""

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

# How much longer than planned the robot may take to come to rest before it is no longer waited for, seconds.
REST_MARGIN = 0.5


class Output(Protocol):
    """A controller of some of the joints."""

    def publish(self, plan: Plan) -> None:
        """Command the motion from now on."""


class CommandLoop:
    """Owns the executor and the outputs. Starts shut: nothing is taken or published until `open`.

    While it is open every plan is published until the robot rests, and the one in which it rests; then it is silent
    until there is a motion again. Thread-safe.
    """

    def __init__(
        self,
        executor: ChunkExecutor,
        outputs: Sequence[Output],
        now_ns: Callable[[], int],
        period: float,
        may_move: Callable[[], bool],
    ) -> None:
        """Take `now`, the robot's clock in nanoseconds, the period in seconds, and what is asked once a period.

        Where `may_move` says no the robot stops, and goes on with the first chunk after it says yes.
        """
        self._executor = executor
        self._outputs = outputs
        self._now_ns = now_ns
        self._period = period
        self._may_move = may_move
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
        """Begin to take chunks; with `dry` all is done but nothing published. The first motion starts as measured."""
        with self._lock:
            self._executor.reset()
            self._resting.set()
            self._open, self._dry = True, dry

    def shut(self) -> None:
        """Bring the robot to rest; return when the hold is published, after which nothing is."""
        with self._lock:
            if not self._open:
                return
            self._executor.hold()
            plan = self._tick()
        if plan is not None:
            left = (plan.end_ns - plan.stamp_ns) * 1e-9
            self._resting.wait(left + REST_MARGIN)
        with self._lock:
            self._open = False

    def add(self, chunk: ActionChunk, measured: np.ndarray) -> None:
        """Execute a chunk, see `ChunkExecutor.add`. Nothing is done while the loop is shut."""
        with self._lock:
            if self._open:
                self._executor.add(chunk, measured, self._now_ns())
                self._tick()

    def hold(self) -> None:
        """Stop, and go on with the next chunk."""
        with self._lock:
            self._executor.hold()

    def wants_chunk(self) -> bool:
        with self._lock:
            return self._open and self._executor.wants_chunk(self._now_ns())

    def guidance_target(self, stamp_ns: int) -> GuidanceTarget | None:
        with self._lock:
            return self._executor.guidance_target(stamp_ns)

    def set_speed_scaling(self, scaling: float) -> None:
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
            # Also when it is late it leaves time for others: they wait for the lock, which is not a fair one.
            due = max(due + self._period, time.monotonic() + self._period / 2)
            with self._lock:
                if self._open:
                    if not self._may_move():
                        self._executor.hold()
                    self._tick()

    def _tick(self) -> Plan | None:
        plan = self._executor.plan(self._now_ns())
        if plan is None:
            self._resting.set()
            return None
        if not (self._resting.is_set() and plan.at_rest) and not self._dry:
            for output in self._outputs:
                output.publish(plan)
        if plan.at_rest:
            self._resting.set()
        else:
            self._resting.clear()
        return plan
