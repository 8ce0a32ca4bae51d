"""The thread that turns snapshots into chunks, so that no sensor waits for an inference."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_ros.inference.device_reset import ResetError, reset_device
from pi0_ttnn_ros.inference.policy_process import PolicyProcess, PolicyUnavailable
from pi0_ttnn_ros.observation.buffer import ObservationBuffer, Snapshot, is_due
from pi0_ttnn_ros.observation.decoding import encoded_observation

# How often the thread looks at the clock while no input arrives, seconds.
POLL = 0.05
# The first pause before a policy process is restarted, doubled with each failure up to the last one, seconds.
FIRST_BACK_OFF, LAST_BACK_OFF = 0.5, 30.0


class Listener(Protocol):
    """Called by the worker's thread, one call at a time; none begins after `pause` and before `resume`."""

    def wants_chunk(self) -> bool:
        """Return whether to infer now, provided that the inputs allow it."""

    def guidance_target(self, stamp_ns: int, state: np.ndarray) -> GuidanceTarget | None:
        """Return what a chunk from an observation of `stamp_ns` with the joint positions `state` must agree with."""

    def on_chunk(self, chunk: ActionChunk, snapshot: Snapshot, latency: float) -> None:
        """Take the chunk of an inference that ended `latency` seconds after `snapshot` was taken.

        What it raises is passed to `on_error`.
        """

    def on_error(self, error: Exception) -> None:
        """Take what an inference, `on_chunk` or anything else in the thread raised; the next inputs are tried again."""

    def on_restart(self) -> None:
        """Take note that the policy process was restarted."""


class InferenceWorker:
    """Infers whenever all inputs are fresh, the joint states are new and the rate allows it. Starts paused.

    A policy process that hung or died is restarted, with growing pauses in between.

    Attributes:
        max_rate: largest number of inferences per second.
        inference_timeout: seconds after which an inference counts as hung.
    """

    def __init__(
        self,
        policy: PolicyProcess,
        buffer: ObservationBuffer,
        joint_names: Sequence[str],
        now_ns: Callable[[], int],
        open_timeout: float,
        listener: Listener,
        reset_command: str = "",
    ) -> None:
        """Start the thread.

        Args:
            policy: an open policy.
            buffer: where the snapshots come from.
            joint_names: the state's joints, in order.
            now_ns: the clock of the inputs' stamps.
            open_timeout: seconds that a restart of the policy process may take.
            listener: receives the chunks.
            reset_command: resets the device after the policy was lost twice without a chunk in between.
        """
        self.max_rate = 10.0
        self.inference_timeout = 5.0
        self._policy = policy
        self._buffer = buffer
        self._joint_names = joint_names
        self._now_ns = now_ns
        self._open_timeout = open_timeout
        self._listener = listener
        self._reset_command = reset_command
        self._losses = 0
        self._running = threading.Event()
        self._closing = threading.Event()
        self._close_timeout = 0.0
        self._idle = threading.Event()
        # Counts the pauses: the result of an inference that began before a pause is dropped after it.
        self._epoch = 0
        self._last_stamp_ns: int | None = None
        self._inference_start: float | None = None
        self._back_off = FIRST_BACK_OFF
        self._unavailable = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def inferring_for(self) -> float:
        """Seconds since the inference under way began; 0 if there is none."""
        start = self._inference_start
        return 0.0 if start is None else time.perf_counter() - start

    def resume(self) -> None:
        """Start to infer."""
        self._last_stamp_ns = None
        self._running.set()

    def pause(self) -> None:
        """Stop calling the listener, without waiting for a call or an inference under way; its result is dropped."""
        self._epoch += 1
        self._running.clear()

    def close(self, timeout: float) -> None:
        """End the thread and the policy; an inference under way may take up to `timeout` seconds to end."""
        self.pause()
        self._close_timeout = timeout
        self._closing.set()
        self._running.set()
        if not self._idle.wait(timeout):
            self._policy.kill()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._running.wait()
            if self._closing.is_set():
                break
            epoch = self._epoch
            try:
                self._step(epoch)
            except Exception as error:
                self._unavailable = isinstance(error, PolicyUnavailable)
                self._report(epoch, error)
                self._closing.wait(POLL)  # what failed may fail again at once
        self._idle.set()
        self._policy.close(self._close_timeout)  # here: a policy process ends with the thread that started it

    def _step(self, epoch: int) -> None:
        if not self._policy.alive:
            self._restart(epoch)
            return
        snapshot = self._buffer.snapshot(self._now_ns())
        due = snapshot is not None and is_due(snapshot.stamp_ns, self._last_stamp_ns, self.max_rate)
        if snapshot is None or not due or not self._listener.wants_chunk():
            self._buffer.wait(POLL)
            return
        self._last_stamp_ns = snapshot.stamp_ns
        start = time.perf_counter()
        observation = encoded_observation(snapshot, self._joint_names)
        target = self._listener.guidance_target(observation.stamp_ns, observation.state)
        self._inference_start = start
        try:
            chunk = self._policy.infer(observation, target, self.inference_timeout)
        finally:
            self._inference_start = None
        self._back_off, self._losses = FIRST_BACK_OFF, 0
        self._notify(epoch, partial(self._listener.on_chunk, chunk, snapshot, time.perf_counter() - start))

    def _restart(self, epoch: int) -> None:
        if not self._unavailable:  # it died between two inferences
            self._report(epoch, PolicyUnavailable("the policy process died"))
        self._unavailable = True
        if self._closing.wait(self._back_off):
            return
        self._back_off = min(2 * self._back_off, LAST_BACK_OFF)
        self._losses += 1
        if self._reset_command and self._losses > 1:
            try:
                reset_device(self._reset_command, self._closing)
            except ResetError as error:
                self._report(epoch, error)
        try:
            self._policy.open(self._open_timeout, self._check_closing)
        except Exception as error:
            self._report(epoch, error)
            return
        self._unavailable = False
        self._last_stamp_ns = None
        self._notify(epoch, self._listener.on_restart)

    def _check_closing(self) -> None:
        if self._closing.is_set():
            raise PolicyUnavailable("the policy is being closed")

    def _report(self, epoch: int, error: Exception) -> None:
        try:
            self._notify(epoch, partial(self._listener.on_error, error))
        except Exception:  # the thread has to live on
            traceback.print_exc()

    def _notify(self, epoch: int, call: Callable[[], None]) -> None:
        if epoch == self._epoch:
            call()
