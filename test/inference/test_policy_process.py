"""The policy process, and what stands in its place."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from pi0_ttnn_ros.inference.policy_process import PolicyProcess, PolicyUnavailable
from pi0_ttnn_ros.inference.requests import PolicyError, PolicyOptions
from pi0_ttnn_ros.observation.decoding import EncodedObservation
from support.waiting import TIMEOUT, wait_until

# What a policy process that is not ours may answer: a pickle that makes a file, as `multiprocessing` frames it.
EXECUTES = """
import pickle, socket, struct, sys, time
class Touch:
    def __reduce__(self):
        return open, ({file!r}, "w")
answer = pickle.dumps((True, Touch()))
socket.socket(fileno=int(sys.argv[1])).sendall(struct.pack("!i", len(answer)) + answer)
time.sleep(600)
"""
ANSWERS = """
import random, socket, sys, time
socket.socket(fileno=int(sys.argv[1])).sendall({answer})
time.sleep(600)
"""
SLEEPER = "import time; time.sleep(3600)"


LOSES_ITS_DEVICE = """
import socket, sys
from types import SimpleNamespace
from pi0_ttnn_core.backend import DeviceLost
from pi0_ttnn_ros.inference.policy_server import serve

def close():
    print("closed", flush=True)
    raise RuntimeError("the device hangs")

def infer(observation, target):
    raise DeviceLost("the Wormhole hangs: TIMEOUT")

backend = SimpleNamespace(name="ttnn", device="card", close=close)
serve(socket.socket(fileno=int(sys.argv[1])), lambda options: SimpleNamespace(backend=backend, infer=infer))
"""


def policy(program: str) -> PolicyProcess:
    return PolicyProcess(PolicyOptions("nowhere", "torch", {}), [sys.executable, "-c", program])


def test_an_answer_is_not_executed(tmp_path):
    """A policy process that is not ours makes the node do nothing but give it up."""
    process = policy(EXECUTES.format(file=str(tmp_path / "made")))
    with pytest.raises(PolicyUnavailable):
        process.open(10.0)
    assert not (tmp_path / "made").exists() and not process.alive


@pytest.mark.parametrize("seed", range(5))
def test_garbage_in_place_of_an_answer(seed):
    """The policy is unavailable, and its process is ended."""
    process = policy(ANSWERS.format(answer=f"random.Random({seed}).randbytes(100_000)"))
    with pytest.raises(PolicyUnavailable, match="no valid answer"):
        process.open(TIMEOUT)
    assert not process.alive


@pytest.mark.parametrize("content", ["{}", '{"backend": 1, "device": "x"}', '{"error": ["x"]}'])
def test_an_answer_to_something_else(content):
    """An answer that does not describe a policy is not one to loading."""
    head = f'{{"content": {content}, "arrays": {{}}}}'.encode()
    process = policy(ANSWERS.format(answer=len(head).to_bytes(4, "little") + head))
    with pytest.raises(PolicyUnavailable, match="does not describe a policy"):
        process.open(TIMEOUT)
    assert not process.alive


def test_the_working_directory_is_not_on_the_path(tmp_path, monkeypatch):
    """A file in the folder in which the node was started is not imported, whatever its name is."""
    for module in ("json", "numpy", "pi0_ttnn_ros"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    process = PolicyProcess(PolicyOptions("nowhere", "torch", {"cameras": ["a"], "joint_names": ["b"]}))
    with pytest.raises(PolicyError, match="nowhere"):
        process.open(TIMEOUT)
    assert not Path("imported").exists()


def descriptors() -> set[str]:
    """Return this process's open file descriptors."""
    return set(os.listdir("/proc/self/fd"))


def test_no_such_program():
    """A program that does not exist is reported, and no file descriptor is lost."""
    before = descriptors()
    process = PolicyProcess(PolicyOptions("nowhere", "torch", {}), ["/nowhere/policy"])
    with pytest.raises(PolicyUnavailable, match=r"cannot be started.*/nowhere/policy"):
        process.open(1.0)
    assert descriptors() == before and not process.alive


def test_waiting_ends():
    """What `while_waiting` raises ends the process and the wait."""

    def fail() -> None:
        raise KeyError("enough")

    process = policy(SLEEPER)
    with pytest.raises(KeyError, match="enough"):
        process.open(3600.0, fail)
    assert not process.alive


def test_loading_takes_too_long():
    """A process that does not answer in time is killed."""
    process = policy(SLEEPER)
    with pytest.raises(PolicyUnavailable, match=r"took longer than 0\.2 s"):
        process.open(0.2)
    assert not process.alive


def test_loss_of_the_device(capfd):
    """The process closes its device, says why the inference failed, and ends."""
    process = policy(LOSES_ITS_DEVICE)
    process.open(TIMEOUT)
    with pytest.raises(PolicyError, match=r"^the Wormhole hangs: TIMEOUT$"):
        process.infer(EncodedObservation({}, np.zeros(1, np.float32), "wave", 0), None, TIMEOUT)
    wait_until(lambda: not process.alive, "the process ends")
    assert capfd.readouterr().out == "closed\n"


def test_device_cannot_be_opened():
    """A process that its alarm ended while it opened the device says so."""
    process = policy("import signal; signal.raise_signal(signal.SIGALRM)")
    with pytest.raises(PolicyUnavailable, match="the device could not be opened within 120 s: reset it"):
        process.open(TIMEOUT)
