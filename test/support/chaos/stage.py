"""One policy node with its robot, and what the faults do to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lifecycle_msgs.srv import ChangeState
from pi0_ttnn_ros.msg import PolicyStatus
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, String

from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from support.chaos.checker import Breach, Checker, HoldDue, Seen
from support.chaos.clock import NodeClock
from support.chaos.episode import LIMITS, PERIOD, Episode
from support.chaos.lateness import Lateness
from support.chaos.log_pipe import LogPipe
from support.chaos.operator import Operator
from support.chaos.robot import Robot
from support.fake_robot import ros_arguments
from support.faulty_node import FaultyNode
from support.processes import Listener

# What a fault yields: seconds to wait, or a condition to wait for and its name.
Wait = float | tuple[Callable[[], object], str]
Steps = Generator[Wait, None, None]

POLICY = "faulty_policy_server"  # in the command line of a policy process
ANSWER_NS = 50_000_000  # for ~/stop: the requirement
# For what shows in a motion only: the timeout of repeated inputs, a motion that is more than noise, and braking.
NOTICE_NS = 2_500_000_000
CLOCK_STOP_NS = 6_000_000_000  # longer than a simulated clock stands still
# The status promises no time: a machine that starts other processes beside it may take minutes.
PATIENCE = 180.0  # seconds
NODE_MEMORY = 300.0  # MiB that the node may take beyond what it has after configure


@dataclass
class Journal:
    """What happened in the run, over all episodes; its events are printed as they happen.

    Attributes:
        start: system's time of the beginning, seconds.
        faults: number of faults by name.
        stops_ms: for each ~/stop, how long its answer took, and how long without the machine's lateness.
        seen: what the checker judged.
        holds: number of holds that were due.
        memory: largest memory of a node, MiB.
    """

    start: float = field(default_factory=time.time)
    faults: dict[str, int] = field(default_factory=dict)
    stops_ms: list[tuple[float, float]] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)
    holds: int = 0
    memory: float = 0.0

    def note(self, text: str) -> None:
        """Print an event."""
        print(f"{time.time() - self.start:8.2f} s  {text}", flush=True)


class Stage:
    """Starts a node and plays its robot; every method returns at once or is a generator for a fault.

    Attributes:
        episode: what is played.
        clock: the node's clock.
        robot: the robot.
        checker: the judge of its commands.
        journal: what happened.
        people: the operator who is judged, and one who calls as often as possible.
        log: the node's output.
        statuses: the newest status; empty before the first.
        may_end: whether the node's process may end.
    """

    def __init__(
        self,
        episode: Episode,
        checkpoint: Path,
        inference_rate: float,
        folder: Path,
        positions: np.ndarray,
        journal: Journal,
        people: tuple[Operator, Operator],
        lateness: Lateness,
    ) -> None:
        self.episode = episode
        self.journal = journal
        self.people = people
        self._lateness = lateness
        self.clock = NodeClock(episode.simulated)
        self.listener = Listener("robot", episode.namespace)
        self.robot = Robot(episode, self.clock, positions, self.listener)
        self.checker = Checker(LIMITS, self.robot.sensors, lateness.between, journal.seen)
        self.robot.be_judged_by(self.checker)
        self.statuses: list[PolicyStatus] = []
        self.listener.node.create_subscription(PolicyStatus, "pi0_policy/status", self._on_status, LATCHED)
        self._emergency_stop = self.listener.node.create_publisher(Bool, "pi0_policy/emergency_stop", LATCHED)
        self._needs_reset: HoldDue | None = None
        self._instructions = self.listener.node.create_publisher(String, "pi0_policy/instruction", 10)
        self._change_state = self.listener.node.create_client(ChangeState, "pi0_policy/change_state")
        self._set_parameters = self.listener.node.create_client(SetParameters, "pi0_policy/set_parameters")
        folder.mkdir()
        self.log = LogPipe(folder / "log")
        self.node = FaultyNode(
            folder, episode.namespace, *ros_arguments(episode.parameters(checkpoint, inference_rate))
        )
        lateness.pid = self.node.process.pid
        self.may_end = False
        self._memory = 0.0

    def note(self, text: str) -> None:
        """Print an event."""
        self.journal.note(text)

    def spin(self) -> None:
        """Play the robot for a moment, and check that the node lives."""
        self.listener.spin_for(0.005)
        status = self.node.process.poll()
        if status is not None and not self.may_end:
            raise Breach(f"the node ended with status {status}")

    def told(self) -> str:
        """Return what the node said last, in its status and its log."""
        status = "".join(
            f"status {(self.clock.now_ns() - nanoseconds(status.header.stamp)) * 1e-9:.1f} s ago: "
            f"{status.lifecycle_state}, activity {status.activity}: {status.reason}\n"
            for status in self.statuses
        )
        return status + "the node's last lines:\n" + "\n".join(self.log.lines)

    def close(self) -> None:
        """Kill the node and leave the graph."""
        self.log.resume()
        self._lateness.pid = 0
        self.node.process.send_signal(signal.SIGCONT)
        policies = [] if self.node.process.poll() is not None else self.policies()
        self.node.kill()
        for child in policies:  # the policy process ends when its socket does, unless it is stopped
            _signal(child, signal.SIGKILL)
        self.listener.close()

    def recover(self) -> Steps:
        """Wait until the node moves the robot again, now that nothing is wrong any more; reset it if it asks for it."""
        start_ns = time.time_ns()
        while not self.robot.moves(start_ns):
            yield lambda: self.robot.moves(start_ns) or self._needs_reset, "motion although nothing is wrong any more"
            if self._needs_reset:
                yield from self.reset()
        self.check_memory()
        self.checker.forget(start_ns)

    def hold_due(self, reason: str, decided_ns: int) -> HoldDue:
        """Demand that the node has decided to hold by a system's time, or a period later."""
        self.journal.holds += 1
        return self.checker.hold_due(reason, decided_ns + round(PERIOD * 1e9))

    def release(self, due: HoldDue) -> None:
        """End the demand: a motion may start from now on."""
        now_ns = time.time_ns()
        for arm in self.robot.arms.values():
            self.checker.finish(arm, now_ns, self.clock.at(now_ns))
        self.checker.release(due, now_ns)

    def not_moving_on(self, reason: str, seconds: float) -> Steps:
        """Check for a while that no motion goes on for long: the node notices the reason by it."""
        start_ns = time.time_ns()
        while time.time_ns() < start_ns + round(seconds * 1e9):
            since_ns = max(start_ns, self.robot.moving_since_ns)
            moved_ns = self.robot.sent_ns - since_ns - self._lateness.between(since_ns, self.robot.sent_ns)
            if moved_ns > NOTICE_NS:
                raise Breach(f"{reason}: the robot moves for {moved_ns * 1e-9:.2f} s all the same")
            yield 0.1

    def change_state(self, transition: int) -> Generator[Wait, None, bool]:
        """Request a lifecycle transition; the generator returns whether it succeeded."""
        yield self._change_state.service_is_ready, "service change_state"
        request = ChangeState.Request()
        request.transition.id = transition
        future = self._change_state.call_async(request)
        yield future.done, f"answer to transition {transition}"
        return future.result().success

    def set_parameter(self, name: str, value: Any) -> Steps:
        """Set a parameter of the node."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        yield self._set_parameters.service_is_ready, "service set_parameters"
        future = self._set_parameters.call_async(request)
        yield future.done, f"answer to {name}"
        (result,) = future.result().results
        if not result.successful:
            raise Breach(f"{name} = {value} was refused: {result.reason}")

    def call(self, *services: str) -> Generator[Wait, None, dict[str, Any]]:
        """Call services one after the other; the generator returns times, see `Operator.call`."""
        number = self.people[0].call(self.episode.namespace, list(services))
        answers = self.people[0].answers
        yield lambda: number in answers, f"answers to {len(services)} calls of {services[0]}"
        answer = answers.pop(number)
        if 0 in answer["answered_ns"]:
            unanswered = answer["answered_ns"].count(0)
            raise Breach(f"{unanswered} of {len(services)} calls of ~/{services[0]} were not answered in 60 s")
        return answer

    def introduce(self) -> Steps:
        """Let both people and the node find each other: a first call waits for that, and nobody judges it."""
        for person in self.people:
            number = person.call(self.episode.namespace, ["reset"])
            yield partial(person.answers.__contains__, number), "answer to the first call"
            del person.answers[number]

    def stop(self, reason: str) -> Generator[Wait, None, HoldDue]:
        """Call ~/stop and judge its answer and the motion's end; the generator returns the hold that is due."""
        number = self.people[0].call(self.episode.namespace, ["stop"])
        answers = self.people[0].answers
        yield lambda: number in answers, "answer to ~/stop"
        answer = answers.pop(number)
        (called_ns,), (answered_ns,) = answer["called_ns"], answer["answered_ns"]
        if not answered_ns:
            raise Breach(f"~/stop was not answered in 60 s ({reason})")
        took_ns = answered_ns - called_ns
        machine_ns = self._lateness.between(called_ns, answered_ns) + answer["waited_ns"]
        self.journal.stops_ms.append((took_ns * 1e-6, max(0.0, (took_ns - machine_ns) * 1e-6)))
        if took_ns - machine_ns > ANSWER_NS:
            raise Breach(
                f"~/stop was answered after {took_ns * 1e-6:.0f} ms ({reason}), of which the machine kept node and "
                f"operator waiting for {machine_ns * 1e-6:.0f} ms; {ANSWER_NS * 1e-6:.0f} ms are allowed"
            )
        self.journal.holds += 1
        return self.checker.hold_due(f"~/stop ({reason})", called_ns)

    def reset(self, due: HoldDue | None = None) -> Steps:
        """Call ~/reset after a stop or another hold."""
        for ended in filter(None, (due, self._needs_reset)):
            self.release(ended)
        self._needs_reset = None
        yield from self.call("reset")

    def press_emergency_stop(self, pressed: bool) -> None:
        """Publish the state of the emergency stop."""
        self._emergency_stop.publish(Bool(data=pressed))

    def instruct(self, text: str) -> None:
        """Publish an instruction."""
        self._instructions.publish(String(data=text))

    def pause_node(self, seconds: float) -> Steps:
        """Stop the node's process for a while."""
        self.node.process.send_signal(signal.SIGSTOP)
        self.checker.paused_until_ns = time.time_ns() + 3600 * 10**9
        yield seconds
        self.node.process.send_signal(signal.SIGCONT)
        self.checker.paused_until_ns = time.time_ns() + round(PERIOD * 1e9)

    def policies(self) -> list[int]:
        """Return the ids of the policy processes: one, or none while it is restarted."""
        return [child for child in self.node.children() if POLICY in _command(child)]

    def kill_policy(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the policy process, where there is one."""
        for child in self.policies():
            _signal(child, number)

    def check_memory(self) -> None:
        """Check that the node's memory never grew by more than NODE_MEMORY since the first call."""
        memory = _peak_memory(self.node.process.pid)
        self._memory = self._memory or memory
        self.journal.memory = max(self.journal.memory, memory)
        if memory > self._memory + NODE_MEMORY:
            raise Breach(f"the node takes {memory:.0f} MiB; it took {self._memory:.0f} MiB after configure")

    def _on_status(self, status: PolicyStatus) -> None:
        self.statuses[:] = [status]
        if not status.reason:
            raise Breach(f"a status without a reason: {status}")
        if status.activity == PolicyStatus.NEEDS_RESET and self._needs_reset is None:
            # While a simulated clock stands still the arm does too, in the middle of a motion.
            decided_ns = time.time_ns() + (0 if self.clock.running else CLOCK_STOP_NS)
            self._needs_reset = self.hold_due(f"{status.reason}, ~/reset is needed", decided_ns)
        if status.activity in (PolicyStatus.IDLE, PolicyStatus.DISABLED) and self._needs_reset is not None:
            self.release(self._needs_reset)  # what comes next is another start
            self._needs_reset = None


def _peak_memory(pid: int) -> float:
    """Return the largest resident memory that a process ever had, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
