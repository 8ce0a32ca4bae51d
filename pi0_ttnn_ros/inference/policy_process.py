"""The node's side of `policy_server`: a policy that can hang or crash without taking the node down."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import wait
from typing import TypeVar

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_core.wormhole import OPEN_TIMEOUT_S
from pi0_ttnn_ros.inference import requests
from pi0_ttnn_ros.inference.framing import FramingError, Message, receive, send
from pi0_ttnn_ros.inference.requests import PolicyDescription, PolicyOptions
from pi0_ttnn_ros.observation.decoding import EncodedObservation
from pi0_ttnn_ros.system.scheduling import OPENMP_PASSIVE_WAIT

MAX_ANSWER_SIZE = 1 << 24  # bytes; a chunk has some thousand
POLL_S = 0.1  # between two calls of `while_waiting`

Answer = TypeVar("Answer")


def _command(module: str) -> tuple[str, ...]:
    """Return the command that runs a module without the working directory on its path: what lies there is not ours."""
    if sys.version_info < (3, 11):
        program = f"import sys; del sys.path[0]; import runpy; runpy.run_module({module!r}, None, '__main__', True)"
        return sys.executable, "-c", program
    return sys.executable, "-P", "-m", module


COMMAND = _command("pi0_ttnn_ros.inference.policy_server")


class PolicyUnavailable(RuntimeError):
    """The policy process hung or died and has to be restarted."""


class PolicyProcess:
    """A policy in a process of its own. One call at a time; `kill` may be called from any thread."""

    def __init__(self, options: PolicyOptions, command: Sequence[str] = COMMAND) -> None:
        """Take what to load, and the command that runs `policy_server.serve` on the socket whose number is appended."""
        self._options = options
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def open(self, timeout: float, while_waiting: Callable[[], None] = lambda: None) -> PolicyDescription:
        """Start the process and load the policy; the calling thread has to outlive the process, which ends with it.

        Args:
            timeout: seconds that it may take.
            while_waiting: called about ten times a second; what it raises ends the process.

        Raises:
            PolicyError: the policy cannot be loaded; the message says why.
            PolicyUnavailable: it was not loaded within `timeout` seconds, the process cannot be started, or it died.
        """
        self.kill()
        try:
            self._start()
        except (OSError, MemoryError) as error:  # no file descriptors are left, say, or there is no such program
            raise PolicyUnavailable(f"the policy process cannot be started: {error or 'out of memory'}") from error
        try:
            request = requests.loading(self._options)
            return self._request(request, requests.description_of, timeout, "loading the policy", while_waiting)
        except BaseException:
            self.kill()
            raise

    def infer(self, observation: EncodedObservation, target: GuidanceTarget | None, timeout: float) -> ActionChunk:
        """Return the chunk for `observation`, see `Policy.infer`.

        Raises:
            PolicyError: the inference failed, or an image cannot be decoded.
            PolicyUnavailable: it took longer than `timeout` seconds and the process was killed, or the process died.
        """
        read = partial(requests.chunk_of, observation=observation)
        return self._request(requests.inference(observation, target), read, timeout, "inference")

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

    def _start(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            command = [*self._command, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=OPENMP_PASSIVE_WAIT | os.environ
            )
            undo.pop_all()
        self._connection = ours

    def _request(
        self,
        request: Message,
        read: Callable[[Message], Answer],
        timeout: float,
        label: str,
        while_waiting: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Return what `read` makes of the answer."""
        assert self._connection is not None
        deadline = time.monotonic() + timeout
        try:
            self._connection.settimeout(timeout)  # a process that does not read must not block the node
            send(self._connection, *request)
            while not wait([self._connection], POLL_S) and time.monotonic() < deadline - POLL_S:
                while_waiting()
            return read(receive(self._connection, MAX_ANSWER_SIZE, deadline))
        except TimeoutError as error:
            self.kill()
            raise PolicyUnavailable(f"{label} took longer than {timeout:g} s; the policy process was killed") from error
        except FramingError as error:
            self.kill()
            raise PolicyUnavailable(f"{label}: no valid answer ({error}); the policy process was killed") from error
        except (EOFError, OSError) as error:
            self.kill()
            raise PolicyUnavailable(f"{label}: {self._death()}") from error

    def _death(self) -> str:
        assert self._process is not None
        status = self._process.returncode
        if status == -signal.SIGALRM:
            return f"the device could not be opened within {OPEN_TIMEOUT_S} s: reset it, for example with tt-smi -r"
        return "the policy process died: " + (f"signal {-status}" if status < 0 else f"exit status {status}")
