"""The inference worker's thread: errors in it are reported, and the thread continues."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.inference.worker import InferenceWorker
from pi0_ttnn_ros.observation.buffer import JOINT_STATES, ObservationBuffer
from support.waiting import TIMEOUT, wait_until

JOINT_STATE = SimpleNamespace(name=["joint"], position=[0.0])


class Policy:
    """A policy process that always lives and answers at once."""

    alive = True

    def infer(self, observation, target, timeout) -> ActionChunk:
        return ActionChunk(np.zeros((1, 1), np.float32), "", observation.stamp_ns, 0.0)

    def kill(self) -> None:
        pass

    def close(self, timeout) -> None:
        pass


class Listener:
    """Keeps what the worker reports; `wants_chunk` raises while it is broken."""

    def __init__(self) -> None:
        self.broken = threading.Event()
        self.chunks = []
        self.errors = []

    def wants_chunk(self) -> bool:
        if self.broken.is_set():
            raise KeyError("no such executor")
        return True

    def guidance_target(self, stamp_ns, state) -> None:
        return None

    def on_chunk(self, chunk, snapshot, latency) -> None:
        self.chunks.append(chunk)

    def on_error(self, error) -> None:
        self.errors.append(error)

    def on_restart(self) -> None:
        raise AssertionError("nothing to restart")


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def buffer():
    return ObservationBuffer({JOINT_STATES: 1e3}, "wave", 1.0, time.monotonic_ns())


@pytest.fixture
def worker(listener, buffer):
    worker = InferenceWorker(
        Policy(),
        buffer,
        ["joint"],
        time.monotonic_ns,
        1.0,
        listener,
    )
    worker.resume()
    yield worker
    worker.close(TIMEOUT)


def feed_until(condition, buffer, label) -> None:
    """Put new joint states into the buffer until `condition` holds."""
    wait_until(lambda: buffer.put(JOINT_STATES, time.monotonic_ns(), JOINT_STATE) or condition(), label)


def test_error_outside_of_inference_is_reported(worker, listener, buffer):
    """An error outside of an inference is reported like one in it, and inference resumes."""
    feed_until(lambda: listener.chunks, buffer, "a chunk")
    listener.broken.set()
    feed_until(lambda: len(listener.errors) > 1, buffer, "errors")
    assert all(isinstance(error, KeyError) and error.__traceback__ for error in listener.errors)
    listener.broken.clear()
    count = len(listener.chunks)
    feed_until(lambda: len(listener.chunks) > count, buffer, "another chunk")
