"""The node's side of `policy_server`: a policy that can hang or crash without taking the node down."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from pi0_ttnn_core.policy_io import ActionChunk, Observation
from pi0_ttnn_core.processing.robot import Robot
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_ros.system.scheduling import OPENMP_PASSIVE_WAIT

COMMAND = (sys.executable, "-m", "pi0_ttnn_ros.inference.policy_server")


@dataclass(frozen=True)
class PolicyOptions:
    """What to load: the arguments of `load_policy`, which describes them."""

    folder: str
    backend: str
    robot: Robot = field(repr=False)
    dtype: str = "float32"
    precision: str = "default"
    num_steps: int | None = None
    seed: int = 0
    with_guidance: bool = False


@dataclass(frozen=True)
class PolicyDescription:
    """What was loaded.

    Attributes:
        backend: name of the backend.
        device: the backend's device in words.
    """

    backend: str
    device: str


class PolicyError(RuntimeError):
    """The policy refused a request or failed, and can be asked again; the message is the policy's own."""


class PolicyUnavailable(RuntimeError):
    """The policy process hung or died and has to be restarted."""


class PolicyProcess:
    """A policy in a process of its own. One call at a time; `kill` may be called from any thread."""

    def __init__(self, options: PolicyOptions, command: Sequence[str] = COMMAND) -> None:
        """Take what to load, and the command that runs `policy_server.serve` on the socket whose number is appended."""
        self._options = options
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def open(self, timeout: float) -> PolicyDescription:
        """Start the process and load the policy.

        Raises:
            PolicyError: the policy cannot be loaded; the message says why.
            PolicyUnavailable: it was not loaded within `timeout` seconds, or the process died.
        """
        self.kill()
        ours, theirs = socket.socketpair()
        # A process that does not read must not block the node.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))
        with theirs:
            command = [*self._command, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=OPENMP_PASSIVE_WAIT | os.environ
            )
        self._connection = Connection(ours.detach())
        try:
            return self._request(self._options, timeout, "loading the policy")
        except PolicyError:
            self.kill()
            raise

    def infer(self, observation: Observation, target: GuidanceTarget | None, timeout: float) -> ActionChunk:
        """Return the chunk for `observation`, see `Policy.infer`.

        Raises:
            PolicyError: the inference failed.
            PolicyUnavailable: it took longer than `timeout` seconds and the process was killed, or the process died.
        """
        return self._request((observation, target), timeout, "inference")

    def close(self, timeout: float) -> None:
        """Let the process free its device and end; kill it if that takes longer than `timeout` seconds."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _request(self, request: Any, timeout: float, label: str) -> Any:
        assert self._connection is not None
        try:
            self._connection.send(request)
            answered = self._connection.poll(timeout)
            ok, answer = self._connection.recv() if answered else (False, None)
        except (EOFError, OSError) as error:
            self.kill()
            raise PolicyUnavailable(f"{label}: {self._death()}") from error
        if not answered:
            self.kill()
            raise PolicyUnavailable(f"{label} took longer than {timeout:g} s; the policy process was killed")
        if not ok:
            raise PolicyError(answer)
        return answer

    def _death(self) -> str:
        assert self._process is not None
        status = self._process.returncode
        return "the policy process died: " + (f"signal {-status}" if status < 0 else f"exit status {status}")
