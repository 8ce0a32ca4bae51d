"""A person at the node's services, in a process of its own: calls them and measures the answers.

Reads requests as lines of JSON and writes a line for each one, once all its calls are answered or 60 s have passed.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from typing import Any

import rclpy
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from std_srvs.srv import SetBool, Trigger

from pi0_ttnn_ros.system.scheduling import Priority, use_realtime_priority
from support.chaos.lateness import waited_ns

POLL = 0.02  # seconds
TIMEOUT = 60.0  # seconds for all answers
SERVICES = {
    "stop": (Trigger, "stop"),
    "reset": (Trigger, "reset"),
    "enable": (SetBool, "enable"),
    "disable": (SetBool, "enable"),
}
QUEUE = QoSProfile(depth=1000)  # of answers in a storm


class Operator:
    """The process, as its parent sees it. Requests are answered in any order."""

    def __init__(self, name: str) -> None:
        self.answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.chaos.operator", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def call(self, namespace: str, services: list[str], rate: float = 0.0) -> int:
        """Call services ("stop", "reset", "enable", "disable") one after the other, at `rate` Hz; return a number.

        Once all are answered, `answers` has under this number: "called_ns" and "answered_ns" of each call in the
        system's time, 0 for one without answer, and "waited_ns" for which the machine kept the operator waiting.
        """
        self._number += 1
        request = {"number": self._number, "namespace": namespace, "services": services, "rate": rate}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._number

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            self.answers[answer["number"]] = answer


class _Caller:
    """The node in the operator's process."""

    def __init__(self, name: str) -> None:
        rclpy.init()
        self._node = rclpy.create_node(name)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._namespace = ""
        self._clients: dict[str, Client] = {}

    def run(self) -> None:
        """Serve the requests until the parent closes the pipe."""
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read_lines, args=(lines,), daemon=True).start()
        while True:
            self._executor.spin_once(timeout_sec=POLL)
            while not lines.empty():
                line = lines.get()
                if not line:
                    return
                print(json.dumps(self._serve(json.loads(line))), flush=True)

    def _serve(self, request: dict[str, Any]) -> dict[str, Any]:
        clients = [self._client(request["namespace"], name) for name in request["services"]]
        deadline = time.monotonic() + TIMEOUT
        while not all(client.service_is_ready() for client in clients) and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=POLL)
        called, answered = [0] * len(clients), [0] * len(clients)
        waited = waited_ns(os.getpid())
        start = time.monotonic()
        waiting: deque[int] = deque(range(len(clients)))
        while (waiting or 0 in answered) and time.monotonic() < deadline:
            if waiting and time.monotonic() >= start + waiting[0] / (request["rate"] or 1e9):
                number = waiting.popleft()
                called[number] = time.time_ns()
                future = clients[number].call_async(_request(request["services"][number]))
                future.add_done_callback(lambda _, number=number: _note(answered, number))
            self._executor.spin_once(timeout_sec=0.001 if waiting else POLL)
        times = {"called_ns": called, "answered_ns": answered, "waited_ns": waited_ns(os.getpid()) - waited}
        return {"number": request["number"]} | times

    def _client(self, namespace: str, name: str) -> Client:
        if namespace != self._namespace:
            self._namespace = namespace
            for client in self._clients.values():
                self._node.destroy_client(client)  # of a node that has ended
            self._clients = {each: self._create(each) for each in SERVICES}
        return self._clients[name]

    def _create(self, name: str) -> Client:
        kind, service = SERVICES[name]
        return self._node.create_client(kind, f"{self._namespace}/pi0_policy/{service}", qos_profile=QUEUE)


def _request(name: str) -> Trigger.Request | SetBool.Request:
    return SetBool.Request(data=name == "enable") if SERVICES[name][0] is SetBool else Trigger.Request()


def _note(answered: list[int], number: int) -> None:
    answered[number] = time.time_ns()


def _read_lines(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    lines.put("")


if __name__ == "__main__":
    use_realtime_priority(Priority.NODE)
    _Caller(sys.argv[1]).run()
