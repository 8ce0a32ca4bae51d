"""The main job on a simulated robot, in one command: robot, policy node and recorder.

    python -m pi0_ttnn_ros.demo [--seconds 30] [--out demo_output] [--checkpoint DIR] [--backend torch|ttnn]

Works without ROS's launch package, which is not to be had as a wheel; launch/demo.launch.py is the same with it.
"""

from __future__ import annotations

import argparse
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

from pi0_ttnn_core.backend import BACKENDS
from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint
from pi0_ttnn_core.wormhole import find_wormhole
from pi0_ttnn_ros.aloha import sim_robot
from pi0_ttnn_ros.demo.recorder import DemoRecorder, write_plot, write_strip
from pi0_ttnn_ros.node import policy_node
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from pi0_ttnn_ros.system.package_files import robot_file

INSTRUCTION = "transfer the red cube to the other arm"
START_TIMEOUT = 60.0  # seconds for a process, a transition or the first chunk
STOP_TIMEOUT = 3.0  # seconds for the processes to end by themselves
# Where the card is simulated, an inference takes half a minute, and the robot waits for it in time of its own.
SIMULATED_CARD_FACTOR = 0.01
SIMULATED_CARD_START = 3600.0  # seconds to compile kernels and to warm up
SIMULATED_CARD_PATIENCE = ["-p", f"load_timeout:={SIMULATED_CARD_START}", "-p", "inference_timeout:=600.0"]


class DemoError(RuntimeError):
    """Something that ends the demo; the message says what."""


class StopRequested(Exception):
    """SIGINT or SIGTERM came."""


class Demo:
    """The processes, and a node that watches them."""

    def __init__(self, out: Path, card_is_simulated: bool) -> None:
        """Write into `out`; next to a simulated card the robot is slowed down."""
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
        print(f"[{time.monotonic() - self._start:5.1f}s] {text}", flush=True)

    def start_process(self, node: ModuleType, *arguments: str) -> None:
        """Run a module of this package as a node; its log goes to the output folder."""
        name = node.__name__.rpartition(".")[2]
        with (self._out / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", node.__name__, *arguments]
            # A session of its own: a Ctrl-C reaches only this process, which ends the others in order.
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def spin_until(self, condition: Callable[[], bool], timeout: float, label: str) -> None:
        """Spin until `condition` holds.

        Raises:
            DemoError: it did not within `timeout` seconds, or a process died.
            StopRequested: a signal came.
        """
        if not self._spin(condition, timeout):
            raise DemoError(f"waited {timeout:g} s in vain for {label}")

    def spin_for(self, seconds: float, or_until: Callable[[], bool] = lambda: False) -> None:
        """Spin for a while, or until `or_until` holds; raises like `spin_until`."""
        self._spin(or_until, seconds)

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
            raise StopRequested
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise DemoError(f"{name} ended with status {process.returncode}{self._log_of(name)}")

    def _log_of(self, name: str) -> str:
        file = self._out / f"{name}.log"
        lines = file.read_text(errors="replace").splitlines()[-10:]
        return "\n  ".join([f"; the end of {file}:", *lines])

    def change_state(self, transition: int, label: str) -> None:
        """Ask the policy node for a transition and wait for it."""
        self.spin_until(self._change_state.service_is_ready, self.start_timeout, "the policy node")
        future = self._change_state.call_async(ChangeState.Request(transition=Transition(id=transition)))
        self.spin_until(future.done, self.start_timeout, f"the policy node to {label}")
        if not future.result().success:
            raise DemoError(f"the policy node could not {label}{self._log_of('policy_node')}")

    def close(self) -> None:
        """End all processes, together: one after the other could take longer than a user waits for a Ctrl-C."""
        deadline = time.monotonic() + STOP_TIMEOUT
        for process in self._processes.values():
            process.send_signal(signal.SIGINT)
        self.recorder.stop()
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._executor.shutdown()
        self.recorder.destroy_node()
        rclpy.shutdown()


def run(demo: Demo, checkpoint: Path, backend: str, seconds: float) -> None:
    """Start everything and let the policy act for `seconds` of the robot's time."""
    slowed = f", at {demo.factor:g} of real time: the card is simulated, too" if demo.factor < 1.0 else ""
    demo.say(f"starting the simulated robot{slowed}")
    demo.start_process(sim_robot, "--ros-args", "-p", f"real_time_factor:={demo.factor}")
    demo.spin_until(lambda: demo.recorder.sees_robot, demo.start_timeout, "images of the robot")
    demo.say(f"starting the policy node with {checkpoint}")
    parameters = robot_file("demo")
    options = ["-p", f"checkpoint:={checkpoint}", "-p", f"backend:={backend}", *demo.robot_time, *demo.patience]
    demo.start_process(policy_node, "--ros-args", "--params-file", str(parameters), *options)
    demo.change_state(Transition.TRANSITION_CONFIGURE, "configure")
    demo.recorder.create_publisher(String, "pi0_policy/instruction", LATCHED).publish(String(data=INSTRUCTION))
    demo.recorder.start()
    demo.change_state(Transition.TRANSITION_ACTIVATE, "activate")
    demo.say(f"the policy acts for {seconds:g} s: {INSTRUCTION!r}")
    # Where the cores are busy the first chunks may come too late to be executed.
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


def report(demo: Demo, out: Path) -> str:
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


def main() -> None:
    """Run the demo: status 0 when the policy moved the robot, 1 when it did not, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="how long the policy acts, in the robot's time (default 30)"
    )
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for film, pictures and logs")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: random weights of a tiny model")
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="what runs the model (default torch)")
    arguments = parser.parse_args()
    wormhole = find_wormhole() if arguments.backend == "ttnn" else None
    if isinstance(wormhole, str):
        sys.exit(f"demo: backend ttnn: {wormhole}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    demo = Demo(arguments.out, card_is_simulated=wormhole is not None and wormhole.simulated)
    summary, problem = "", ""
    try:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            checkpoint = arguments.out / "checkpoint"
            demo.say(f"writing a tiny checkpoint of random weights to {checkpoint}")
            make_checkpoint("tiny", checkpoint, seed=0)
        run(demo, checkpoint, arguments.backend, arguments.seconds)
        summary = report(demo, arguments.out)
    except DemoError as error:
        problem = str(error)
    except StopRequested:
        demo.say("interrupted")
        sys.exit(130)
    finally:
        demo.close()
    if problem:
        sys.exit(f"demo: {problem}")
    print(summary)


if __name__ == "__main__":
    main()
