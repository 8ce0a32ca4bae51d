"""The main job on a simulated robot: the processes of robot and policy node, and the recorder that watches them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint
from pi0_ttnn_ros.aloha import sim_robot
from pi0_ttnn_ros.demo.recorder import DemoRecorder, write_plot, write_strip
from pi0_ttnn_ros.node import policy_node
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from pi0_ttnn_ros.system.package_files import robot_file

INSTRUCTION = "transfer the red cube to the other arm"
START_TIMEOUT = 60.0  # seconds for a process to start, a transition or the first chunk
STOP_TIMEOUT = 3.0  # seconds for the processes to end by themselves
DISCOVERY_TIME = 3.0  # seconds that DDS may take to discover a node that was there before
GONE_TIMEOUT = 25.0  # seconds; a node that was killed seems to be there for 20 (the lease of its DDS participant)
LOG_LINES = 10  # of a process that failed
# On a simulated card an inference takes half a minute: the robot waits for it in a slower time of its own.
SIMULATED_CARD_FACTOR = 0.01
SIMULATED_CARD_START = 3600.0  # seconds to compile kernels and to warm up
SIMULATED_CARD_PATIENCE = ["-p", f"load_timeout:={SIMULATED_CARD_START}", "-p", "inference_timeout:=600.0"]


class DemoError(RuntimeError):
    """Something that ends the demo; the message says what."""


class Demo:
    """The processes, and a node that watches them.

    Attributes:
        factor: the robot's seconds per second.
        start_timeout: seconds for a process to start, a transition or the first chunk.
        robot_time: arguments of nodes that live in the robot's time.
        patience: arguments of a policy node on a simulated card.
        recorder: the node that watches.
    """

    def __init__(self, out: Path, card_is_simulated: bool) -> None:
        """Write into `out`; with a simulated card the robot is slowed down.

        From here on SIGINT and SIGTERM no longer raise at once, but in the methods that wait.
        """
        self._out = out
        self.factor = SIMULATED_CARD_FACTOR if card_is_simulated else 1.0
        self.start_timeout = SIMULATED_CARD_START if card_is_simulated else START_TIMEOUT
        self.robot_time = ["-p", f"use_sim_time:={str(card_is_simulated).lower()}"]
        self.patience = SIMULATED_CARD_PATIENCE if card_is_simulated else []
        self._start = time.monotonic()
        self._stopping = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopping.set())
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self.recorder = DemoRecorder(out / "demo.mp4", self.robot_time)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.recorder)
        self._change_state = self.recorder.create_client(ChangeState, "pi0_policy/change_state")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def say(self, text: str) -> None:
        """Print a line with the time since the start."""
        print(f"[{time.monotonic() - self._start:5.1f}s] {text}", flush=True)

    def start_process(self, node: ModuleType, *arguments: str) -> None:
        """Run a module of this package as a node; its log goes to the output folder."""
        name = _name(node)
        with (self._out / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", node.__name__, *arguments]
            # A session of its own: Ctrl-C reaches only this process, which ends the others in order.
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def spin_until(self, condition: Callable[[], bool], timeout: float, label: str, node: ModuleType) -> None:
        """Spin until `condition` holds.

        Raises:
            DemoError: it did not hold within `timeout` seconds, with the log of `node`; or a process died.
            KeyboardInterrupt: a signal came.
        """
        if not self._spin(condition, timeout):
            raise DemoError(f"no {label} after {timeout:g} s{self._log_of(_name(node))}")

    def spin_for(self, seconds: float, or_until: Callable[[], bool] = lambda: False) -> None:
        """Spin for some seconds or until `or_until` holds; raise like `spin_until`."""
        self._spin(or_until, seconds)

    def check_alone(self) -> None:
        """Check that no other policy node would answer instead of the demo's.

        Raises:
            DemoError: another one is running.
        """
        if self._spin(self._change_state.service_is_ready, self._start + DISCOVERY_TIME - time.monotonic()):
            self.say("another policy node is running: waiting for it to end")
        if not self._spin(lambda: not self._change_state.service_is_ready(), GONE_TIMEOUT):
            raise DemoError("another policy node is running: end it, or set another ROS_DOMAIN_ID")

    def change_state(self, transition: int, label: str) -> None:
        """Request a transition of the policy node and wait for it.

        Raises:
            DemoError: the node refused, with its log; or as in `spin_until`.
        """
        self.spin_until(self._change_state.service_is_ready, self.start_timeout, "policy node", policy_node)
        future = self._change_state.call_async(ChangeState.Request(transition=Transition(id=transition)))
        self.spin_until(future.done, self.start_timeout, f"answer of the policy node to {label}", policy_node)
        if not future.result().success:
            raise DemoError(f"the policy node could not {label}{self._log_of(_name(policy_node))}")

    def close(self) -> None:
        """End all processes at the same time: one after the other could take longer than a user waits after Ctrl-C."""
        deadline = time.monotonic() + STOP_TIMEOUT
        for process in self._processes.values():
            process.send_signal(signal.SIGINT)
        self.recorder.stop()
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with the policy process, a child of the policy node
                process.wait()
        self._executor.shutdown()
        self.recorder.destroy_node()
        rclpy.shutdown()

    def _spin(self, condition: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not condition():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self._check_processes()
            self._executor.spin_once(timeout_sec=min(0.1, remaining))
        return True

    def _check_processes(self) -> None:
        if self._stopping.is_set():
            raise KeyboardInterrupt
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise DemoError(f"{name} ended with status {process.returncode}{self._log_of(name)}")

    def _log_of(self, name: str) -> str:
        file = self._out / f"{name}.log"
        lines = file.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n  ".join([f"; the end of {file}:", *(lines or ["(empty)"])])


def run_demo(out: Path, checkpoint: Path | None, backend: str, seconds: float, card_is_simulated: bool) -> None:
    """Run the demo and print its summary; without a checkpoint, make one of random weights.

    Raises:
        SystemExit: something failed, or the policy did not move the robot.
        KeyboardInterrupt: SIGINT or SIGTERM came. Everything is closed.
    """
    out.mkdir(parents=True, exist_ok=True)
    if checkpoint is None:
        checkpoint = out / "checkpoint"
        print(f"writing a tiny checkpoint of random weights to {checkpoint}", flush=True)
        make_checkpoint("tiny", checkpoint, seed=0)
    demo = Demo(out, card_is_simulated)
    try:
        _run(demo, checkpoint, backend, seconds)
        summary = _report(demo, out)
    except DemoError as error:
        sys.exit(f"demo: {error}")
    finally:
        demo.close()
    print(summary)


def _name(node: ModuleType) -> str:
    return node.__name__.rpartition(".")[2]


def _run(demo: Demo, checkpoint: Path, backend: str, seconds: float) -> None:
    """Start everything and let the policy run for `seconds` of the robot's time."""
    slowed = f", at {demo.factor:g} of real time: the card is simulated as well" if demo.factor < 1.0 else ""
    demo.say(f"starting the simulated robot{slowed}")
    demo.start_process(sim_robot, "--ros-args", "-p", f"real_time_factor:={demo.factor}")
    demo.spin_until(lambda: demo.recorder.sees_robot, demo.start_timeout, "images of the robot", sim_robot)
    demo.check_alone()
    demo.say(f"starting the policy node with {checkpoint}")
    parameters = robot_file("demo")
    options = ["-p", f"checkpoint:={checkpoint}", "-p", f"backend:={backend}", *demo.robot_time, *demo.patience]
    demo.start_process(policy_node, "--ros-args", "--params-file", str(parameters), *options)
    demo.change_state(Transition.TRANSITION_CONFIGURE, "configure")
    demo.recorder.create_publisher(String, "pi0_policy/instruction", LATCHED).publish(String(data=INSTRUCTION))
    demo.recorder.start()
    demo.change_state(Transition.TRANSITION_ACTIVATE, "activate")
    demo.say(f"the policy runs for {seconds:g} s: {INSTRUCTION!r}")
    # On busy cores the first chunks may come too late to be executed.
    demo.spin_for(demo.start_timeout, or_until=lambda: bool(demo.recorder.recording.sequences))
    deadline = time.monotonic() + seconds / demo.factor
    while (remaining := deadline - time.monotonic()) > 0:
        demo.spin_for(min(2.0 / demo.factor**0.5, remaining))
        status = demo.recorder.status
        if status is not None:
            stale = f", stale: {', '.join(status.stale_inputs)}" if status.stale_inputs else ""
            demo.say(
                f"{len(demo.recorder.recording.sequences)} chunks, latency p50 {status.latency_p50 * 1e3:.0f} ms, "
                f"joints moved {demo.recorder.recording.distance():.1f} rad{stale}"
            )
    demo.change_state(Transition.TRANSITION_DEACTIVATE, "deactivate")
    demo.recorder.stop()


def _report(demo: Demo, out: Path) -> str:
    """Write the pictures and return the summary.

    Raises:
        DemoError: the policy did not move the robot.
    """
    recording, status = demo.recorder.recording, demo.recorder.status
    if not recording.sequences or status is None or recording.distance() < 0.1:
        error = status.last_error if status is not None else ""
        raise DemoError(f"the policy did not move the robot{': ' + error if error else ''}")
    write_strip(recording, out / "demo.png")
    write_plot(recording, out / "joints.png")
    demo.say(f"wrote {out}/demo.mp4, demo.png and joints.png")
    received = len(recording.stamps_ns) + len(recording.sequences)
    lost = recording.joint_states_lost() + recording.chunks_lost()
    return (
        f"inferences: {len(recording.sequences)}, latency p50 {status.latency_p50 * 1e3:.0f} ms, "
        f"p95 {status.latency_p95 * 1e3:.0f} ms, dropped {lost} of {received + lost} joint states and chunks, "
        f"joints moved {recording.distance():.1f} rad"
    )
