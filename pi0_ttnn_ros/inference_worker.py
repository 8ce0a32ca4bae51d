"""A thread that turns snapshots into chunks, so that no sensor waits for an inference."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pi0_ttnn_core.policy import ActionChunk, Observation, Policy
from pi0_ttnn_ros.observation_buffer import ObservationBuffer, Snapshot

# How often the thread looks at the clock while no input arrives, seconds.
POLL = 0.05


class Listener(Protocol):
    """What the worker tells, from its thread, one call at a time, and only between `resume` and `pause`."""

    def on_chunk(self, chunk: ActionChunk, observation: Observation, latency: float) -> None:
        """An inference ended, `latency` seconds after its inputs were taken. May raise: `on_error` is told."""

    def on_stale(self) -> None:
        """An input became stale."""

    def on_error(self, error: Exception) -> None:
        """An inference failed, or `on_chunk` did; the next inputs will be tried again."""


class InferenceWorker:
    """Infers whenever all inputs are fresh, the joint states are new and the rate allows it. Starts paused."""

    def __init__(
        self,
        policy: Policy,
        buffer: ObservationBuffer,
        decode: Callable[[Snapshot], Observation],
        now: Callable[[], int],
        max_rate: float,
        listener: Listener,
    ) -> None:
        """Take `now`, the clock of the inputs' stamps in nanoseconds, and `max_rate` in Hz."""
        self._policy = policy
        self._buffer = buffer
        self._decode = decode
        self._now = now
        self._min_interval = round(1e9 / max_rate)
        self._listener = listener
        self._telling = threading.Lock()
        self._acting = threading.Event()
        self._closing = False
        # Counts the pauses: what an inference from before a pause found is not told after it.
        self._epoch = 0
        self._last_stamp: int | None = None
        self._was_fresh = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Start to infer."""
        self._last_stamp, self._was_fresh = None, False
        self._acting.set()

    def pause(self) -> None:
        """Once this has returned the listener is told nothing more; an inference under way is not waited for."""
        with self._telling:
            self._epoch += 1
            self._acting.clear()

    def close(self, timeout: float) -> bool:
        """End the thread and return if it did; an inference under way is waited for up to `timeout` seconds."""
        self.pause()
        self._closing = True
        self._acting.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._acting.wait()
            if self._closing:
                return
            self._step(self._epoch)

    def _step(self, epoch: int) -> None:
        snapshot = self._buffer.snapshot(self._now())
        if snapshot is None and self._was_fresh:
            self._tell(epoch, self._listener.on_stale)
        self._was_fresh = snapshot is not None
        if snapshot is None or not self._is_due(snapshot):
            self._buffer.wait(POLL)
            return
        self._last_stamp = snapshot.stamp
        start = time.perf_counter()
        try:
            observation = self._decode(snapshot)
            chunk = self._policy.infer(observation)
            latency = time.perf_counter() - start
            self._tell(epoch, partial(self._listener.on_chunk, chunk, observation, latency))
        except Exception as error:
            self._tell(epoch, partial(self._listener.on_error, error))

    def _is_due(self, snapshot: Snapshot) -> bool:
        return self._last_stamp is None or abs(snapshot.stamp - self._last_stamp) >= self._min_interval

    def _tell(self, epoch: int, call: Callable[[], None]) -> None:
        with self._telling:
            if epoch == self._epoch:
                call()
