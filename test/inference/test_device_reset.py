"""The command that resets a device: what it reports, and when the worker runs it."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from pi0_ttnn_ros.inference import device_reset, worker
from pi0_ttnn_ros.inference.device_reset import ResetError, reset_device
from pi0_ttnn_ros.inference.policy_process import PolicyUnavailable
from pi0_ttnn_ros.inference.worker import InferenceWorker
from pi0_ttnn_ros.observation.buffer import JOINT_STATES, ObservationBuffer
from support.waiting import wait_until


class LostPolicy:
    """A policy process that never opens; counts the attempts."""

    alive = False

    def __init__(self) -> None:
        self.attempts = 0

    def open(self, timeout, while_waiting) -> None:
        self.attempts += 1
        raise PolicyUnavailable("hung")

    def kill(self) -> None:
        """It does not live."""

    def close(self, timeout) -> None:
        """It does not live."""


class Listener:
    """Keeps the errors, each with the number of attempts before it."""

    def __init__(self, policy: LostPolicy) -> None:
        self.errors: list[tuple[int, Exception]] = []
        self._policy = policy

    def on_error(self, error) -> None:
        self.errors.append((self._policy.attempts, error))


@pytest.fixture
def start(monkeypatch):
    """A function that starts a worker without a policy and returns its listener."""
    monkeypatch.setattr(worker, "FIRST_BACK_OFF", 0.01)
    monkeypatch.setattr(worker, "LAST_BACK_OFF", 0.01)
    workers = []

    def start(command: str) -> Listener:
        policy = LostPolicy()
        listener = Listener(policy)
        buffer = ObservationBuffer({JOINT_STATES: 1e3}, "wave", 1.0, time.monotonic_ns())
        workers.append(InferenceWorker(policy, buffer, ["joint"], time.monotonic_ns, 1.0, listener, command))
        workers[0].resume()
        return listener

    yield start
    workers[0].close(1.0)


def python(program: str) -> str:
    return f"{sys.executable} -c '{program}'"


def test_reset():
    reset_device(python("pass"), threading.Event())


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (python("exit(3)"), "ended with status 3"),
        ("/no/such/command -r 0", "cannot be run"),
        ("unclosed 'quote", "cannot be run"),
        (" ", "cannot be run"),
    ],
)
def test_failed_reset(command, text):
    with pytest.raises(ResetError, match=text):
        reset_device(command, threading.Event())


def test_reset_that_hangs(monkeypatch):
    """A reset that hangs is ended after its time, or at once when the worker is closed."""
    hangs = python("import time; time.sleep(600)")
    closing = threading.Event()
    closing.set()
    with pytest.raises(ResetError, match="was ended"):
        reset_device(hangs, closing)
    monkeypatch.setattr(device_reset, "TIMEOUT_S", 0.1)
    with pytest.raises(ResetError, match="was ended"):
        reset_device(hangs, threading.Event())


def test_reset_after_the_second_loss(start):
    """The first loss is answered with a restart alone, each further one with a reset before it."""
    listener = start(python("exit(3)"))
    wait_until(lambda: len([1 for _, error in listener.errors if isinstance(error, ResetError)]) >= 2, "two resets")
    resets = [attempts for attempts, error in listener.errors if isinstance(error, ResetError)]
    assert resets[:2] == [1, 2]


def test_no_reset_without_a_command(start):
    listener = start("")
    wait_until(lambda: listener.errors and listener.errors[-1][0] >= 3, "three attempts")
    assert not [error for _, error in listener.errors if isinstance(error, ResetError)]
