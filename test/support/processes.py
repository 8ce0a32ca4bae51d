"""Real processes over DDS for the tests of the nodes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from support.waiting import TIMEOUT


class Process:
    """A node in its own process.

    Attributes:
        namespace: of the node.
        log_file: file for its output.
        process: the running process.
    """

    def __init__(
        self, module: str | Sequence[str], log: Path, *ros_arguments: str, namespace: str, output: int | None = None
    ) -> None:
        """Start a module of this package, or a script with its arguments; `output` takes the place of the log."""
        self.namespace = namespace
        self.log_file = log
        program = ["-m", f"pi0_ttnn_ros.{module}"] if isinstance(module, str) else module
        command = [sys.executable, *program, "--ros-args", "-r", f"__ns:={namespace}", *ros_arguments]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=output or file, stderr=output or file)

    def children(self) -> list[int]:
        """Return the ids of its child processes, whichever thread started them, but for the relay of its output."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        children = [child for task in tasks for child in (task / "children").read_text().split()]
        return [child for child in map(int, children) if b"output_relay" not in command_line(child)]

    @property
    def log(self) -> str:
        """Return the output so far."""
        return self.log_file.read_text(errors="replace")

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit status; the test fails when the process does not end."""
        self.process.send_signal(number)
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"no end after signal {number}:\n{self.log}") from None

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()


class Listener:
    """A node of the test that keeps what it receives, with its executor.

    Attributes:
        node: for publishers, timers and the like.
    """

    def __init__(self, name: str, namespace: str, context: Context | None = None) -> None:
        self.node = Node(name, namespace=namespace, context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Client] = {}

    def subscribe(self, message_type: type, topic: str, qos: Any = 10) -> list[Any]:
        """Return a list to which the messages of `topic` are appended."""
        received: list[Any] = []
        self.node.create_subscription(message_type, topic, received.append, qos)
        return received

    def spin_until(self, condition: Callable[[], object], label: str) -> None:
        """Spin until `condition` holds; the test fails when it never does."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f"no {label} after {TIMEOUT:g} s"
            self._executor.spin_once(timeout_sec=0.1)

    def spin_for(self, seconds: float) -> None:
        """Spin for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def call(self, service_type: type, name: str, request: Any) -> Any:
        """Call a service and return its response."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(service_type, name)
        client = self._clients[name]
        self.spin_until(client.service_is_ready, label=f"service {name}")
        future = client.call_async(request)
        self.spin_until(future.done, label=f"response of {name}")
        return future.result()

    def close(self) -> None:
        """Remove the node."""
        self._executor.shutdown()
        self.node.destroy_node()


def command_line(pid: int) -> bytes:
    """Return the program and its arguments; nothing if the process has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def is_running(pid: int) -> bool:
    """Return whether a process runs, which a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def resident_memory(pid: int) -> float:
    """Return the resident memory of a process, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def without_ros_environment() -> dict[str, str]:
    """Return the environment as if ROS were not set up."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith(("AMENT", "ROS_", "_ROS"))}
