"""A thread that turns snapshots into chunks, so that no sensor waits for an inference."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pi0_ttnn_core.policy_io import ActionChunk, Observation
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_ros.inference.policy_process import PolicyError, PolicyProcess, PolicyUnavailable
from pi0_ttnn_ros.observation.buffer import ObservationBuffer, Snapshot, is_due

# How often the thread looks at the clock while no input arrives, seconds.
POLL = 0.05
# A lost policy is opened again after the first of these, doubled up to the second with each failure, seconds.
FIRST_BACK_OFF, LAST_BACK_OFF = 0.5, 30.0


class Listener(Protocol):
    """What the worker tells and asks, from its thread, one call at a time, and only between `resume` and `pause`."""

    def wants_chunk(self) -> bool:
        """Whether to infer now, where the inputs allow it."""

    def guidance_target(self, stamp_ns: int) -> GuidanceTarget | None:
        """What a chunk from an observation at `stamp` (nanoseconds) must agree with."""

    def on_chunk(self, chunk: ActionChunk, snapshot: Snapshot, latency: float) -> None:
        """An inference ended, `latency` seconds after `snapshot` was taken. May raise: `on_error` is told."""

    def on_error(self, error: Exception) -> None:
        """An inference failed, or `on_chunk` did; the next inputs will be tried again."""

    def on_restart(self) -> None:
        """A lost policy was opened again."""


class InferenceWorker:
    """Infers whenever all inputs are fresh, the joint states are new and the rate allows it. Starts paused.

    A policy that is lost is opened again, with growing pauses in between.
    """

    def __init__(
        self,
        policy: PolicyProcess,
        buffer: ObservationBuffer,
        decode: Callable[[Snapshot], Observation],
        now_ns: Callable[[], int],
        open_timeout: float,
        listener: Listener,
    ) -> None:
        """Take an open policy and `now`, the clock of the inputs' stamps in nanoseconds."""
        self.max_rate = 10.0  # Hz
        self.inference_timeout = 5.0  # seconds
        self._policy = policy
        self._buffer = buffer
        self._decode = decode
        self._now_ns = now_ns
        self._open_timeout = open_timeout
        self._listener = listener
        self._notifying = threading.Lock()
        self._running = threading.Event()
        self._closing = threading.Event()
        # Counts the pauses: what an inference from before a pause found is not told after it.
        self._epoch = 0
        self._last_stamp_ns: int | None = None
        self._back_off = FIRST_BACK_OFF
        self._lost = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Start to infer."""
        self._last_stamp_ns = None
        self._running.set()

    def pause(self) -> None:
        """Once this has returned the listener is told nothing more; an inference under way is not waited for."""
        with self._notifying:
            self._epoch += 1
            self._running.clear()

    def close(self, timeout: float) -> None:
        """End the thread and the policy; an inference under way may take up to `timeout` seconds to end."""
        self.pause()
        self._closing.set()
        self._running.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._policy.kill()
            self._thread.join()
        self._policy.close(timeout)

    def _run(self) -> None:
        while True:
            self._running.wait()
            if self._closing.is_set():
                return
            self._step(self._epoch)

    def _step(self, epoch: int) -> None:
        if not self._policy.alive:
            self._reopen(epoch)
            return
        snapshot = self._buffer.snapshot(self._now_ns())
        due = snapshot is not None and is_due(snapshot.stamp_ns, self._last_stamp_ns, self.max_rate)
        if snapshot is None or not due or not self._listener.wants_chunk():
            self._buffer.wait(POLL)
            return
        self._last_stamp_ns = snapshot.stamp_ns
        start = time.perf_counter()
        try:
            observation = self._decode(snapshot)
            target = self._listener.guidance_target(observation.stamp_ns)
            chunk = self._policy.infer(observation, target, self.inference_timeout)
            self._back_off = FIRST_BACK_OFF
            self._notify(epoch, partial(self._listener.on_chunk, chunk, snapshot, time.perf_counter() - start))
        except Exception as error:
            self._lost = isinstance(error, PolicyUnavailable)
            self._notify(epoch, partial(self._listener.on_error, error))

    def _reopen(self, epoch: int) -> None:
        if not self._lost:  # it died between two inferences
            self._notify(epoch, partial(self._listener.on_error, PolicyUnavailable("the policy's process died")))
        self._lost = True
        if self._closing.wait(self._back_off):
            return
        self._back_off = min(2 * self._back_off, LAST_BACK_OFF)
        try:
            self._policy.open(self._open_timeout)
        except (PolicyError, PolicyUnavailable) as error:
            self._notify(epoch, partial(self._listener.on_error, error))
            return
        self._lost = False
        self._last_stamp_ns = None
        self._notify(epoch, self._listener.on_restart)

    def _notify(self, epoch: int, call: Callable[[], None]) -> None:
        with self._notifying:
            if epoch == self._epoch:
                call()
