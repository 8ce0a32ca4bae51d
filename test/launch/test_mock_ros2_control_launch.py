"""mock_ros2_control.launch.py: the policy node moves an arm through ros2_control's own controllers.

With `-s` it prints what docs/measurements.md says.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from support.reasons import OVERLAY

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from support.mock_arm import require_ros2_control

if shutil.which("ros2") is None:
    pytest.skip(OVERLAY, allow_module_level=True)
require_ros2_control()

from pi0_ttnn_ros.msg import PolicyStatus
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint
from pi0_ttnn_ros.execution.chunk_executor import FROZEN_NS, PLAN_AHEAD_NS
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from support.mock_arm import EVERYTHING, MockArm, Samples, rest_ns
from support.waiting import TIMEOUT

pytestmark = pytest.mark.controllers

NAMESPACE = "/test_mock_ros2_control"
MAX_VELOCITY = 1.0  # rad/s, of the arm's joints in config/mock_arm.yaml
MAX_ACCELERATION = 5.0  # rad/s^2
BRAKING_NS = round(MAX_VELOCITY / MAX_ACCELERATION * 1e9)
PAUSE_NS = 500_000_000
TOLERANCE = 0.01  # rad
CONSTRAINT = 0.1  # rad, of the arm's controller in config/mock_arm/controllers.yaml
SECOND_NS = 10**9


class LaunchedArm(MockArm):
    """The launched arm and policy node.

    Attributes:
        statuses: the received statuses of the policy node.
        commands: for each command of the arm when it was sent, nanoseconds.
    """

    def __init__(self, checkpoint: Path, log: Path) -> None:
        super().__init__(NAMESPACE)
        self.statuses = self.listener.subscribe(PolicyStatus, "pi0_policy/status", LATCHED)
        self.commands: list[int] = []
        self.listener.node.create_subscription(
            JointTrajectory,
            "arm_controller/joint_trajectory",
            lambda message, about: self.commands.append(about["source_timestamp"]),
            EVERYTHING,
        )
        arguments = {"checkpoint": checkpoint, "namespace": NAMESPACE}
        command = ["ros2", "launch", "pi0_ttnn_ros", "mock_ros2_control.launch.py"]
        command += [f"{name}:={value}" for name, value in arguments.items()]
        self.log = log
        with log.open("wb") as output:
            self._launch = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

    @property
    def status(self) -> PolicyStatus:
        """Return the newest status."""
        return self.statuses[-1]

    def wait_for_status(self, wanted, label: str) -> None:
        """Wait for a status for which `wanted` holds."""
        self.listener.spin_until(lambda: self.statuses and wanted(self.status), label=label)

    def wait_for_motion(self) -> None:
        """Wait until the joints move."""
        start = self.positions()
        self.listener.spin_until(
            lambda: np.abs(self.positions() - start).max() > 0.01, label=f"a motion: {self.status}"
        )

    def trigger(self, name: str) -> None:
        """Call ~/stop or ~/reset."""
        assert self.listener.call(Trigger, f"pi0_policy/{name}", Trigger.Request()).success

    def spin_for(self, duration_ns: int) -> Samples:
        """Return what the arm does in the next nanoseconds."""
        start_ns = self.now_ns
        self.spin_to(start_ns + duration_ns)
        return self.samples().between(start_ns, start_ns + duration_ns)

    def kill(self, executable: str) -> int:
        """Kill a node as `kill -9` does; return when."""
        killed_ns = self.now_ns
        os.kill(self._process(executable), signal.SIGKILL)
        return killed_ns

    @contextmanager
    def paused(self, executable: str) -> Iterator[None]:
        """Stop a node's process meanwhile."""
        process = self._process(executable)
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)

    def close(self) -> None:
        """End the launch and all that it started."""
        self._launch.send_signal(signal.SIGINT)
        try:
            self._launch.wait(TIMEOUT)
        finally:
            for process in self._processes():
                os.kill(process, signal.SIGKILL)
            super().close()

    def _process(self, executable: str) -> int:
        """Return the id of the process that runs an executable of ROS."""
        (process,) = (each for each in self._processes() if f"/{executable} --ros-args" in _command_line(each))
        return process

    def _processes(self) -> list[int]:
        """Return the ids of all processes in the launch's session."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[3]) == self._launch.pid:
                    found.append(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found


def _command_line(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


def speeds(samples: Samples) -> np.ndarray:
    """Return the speed of the fastest joint between two samples, float64 [samples - 1], rad/s."""
    return np.abs(samples.steps).max(axis=1) / (np.diff(samples.times_ns) * 1e-9)


@pytest.fixture(scope="module")
def arm(ros, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mock_ros2_control")
    make_checkpoint("tiny", folder / "tiny_arm", seed=0, arms=1)
    arm = LaunchedArm(folder / "tiny_arm", folder / "log")
    yield arm
    arm.close()


@pytest.fixture(scope="module")
def moving_arm(arm):
    """The arm, moved by the policy."""
    arm.wait_for_controllers()
    arm.wait_for_status(lambda status: status.lifecycle_state == "active", "the active node")
    instruction = arm.listener.node.create_publisher(String, "pi0_policy/instruction", LATCHED)
    instruction.publish(String(data="wave"))
    arm.wait_for_motion()
    return arm


def test_arm_follows_the_policy(moving_arm):
    """The arm moves by the plans, within the limits, as close to them as its controller's update rate allows."""
    sent = len(moving_arm.commands)
    samples = moving_arm.spin_for(5 * SECOND_NS)
    assert samples.excess(MAX_VELOCITY) < TOLERANCE
    assert np.ptp(samples.measured, axis=0).max() > 0.1
    error = np.abs(samples.measured - samples.positions).max()
    gaps = np.diff(moving_arm.commands[sent:]) * 1e-6
    print(
        f"\ntracking error of the joints {error:.4f} rad at most; {len(gaps)} gaps of commands, ms: "
        f"median {np.median(gaps):.1f}, 99th percentile {np.percentile(gaps, 99):.1f}, longest {gaps.max():.1f}"
    )
    assert error < 0.05


def test_stop(moving_arm):
    """~/stop brings the arm to rest within its limits."""
    for service in ("stop", "reset"):  # so that discovery is not measured
        moving_arm.trigger(service)
    moving_arm.wait_for_motion()
    speed = speeds(moving_arm.spin_for(SECOND_NS // 2))[-1]
    called_ns = moving_arm.now_ns
    moving_arm.trigger("stop")
    answered_ns = moving_arm.now_ns
    moving_arm.spin_to(called_ns + SECOND_NS)
    samples = moving_arm.samples().between(called_ns, called_ns + SECOND_NS)
    moving_arm.trigger("reset")
    rested_ns = rest_ns(samples)
    print(
        f"\n~/stop: answered after {(answered_ns - called_ns) * 1e-6:.0f} ms, "
        f"at rest {(rested_ns - called_ns) * 1e-6:.0f} ms after the call; "
        f"to brake from {speed:.2f} rad/s takes {speed / MAX_ACCELERATION * 1e3:.0f} ms"
    )
    assert samples.excess(MAX_VELOCITY) < TOLERANCE
    assert rested_ns - called_ns < BRAKING_NS + SECOND_NS // 2
    moving_arm.wait_for_motion()


def test_stalled_controller_manager(moving_arm):
    """After a pause of the controller manager no joint jumps to where it should be by now, and the motion resumes."""
    moving_arm.wait_for_motion()
    paused_ns = moving_arm.now_ns
    with moving_arm.paused("ros2_control_node"):
        moving_arm.listener.spin_for(PAUSE_NS * 1e-9)
    moving_arm.spin_to(paused_ns + 2 * PAUSE_NS)
    samples = moving_arm.samples().between(paused_ns, paused_ns + 2 * PAUSE_NS)
    step = np.abs(samples.steps).max()
    print(f"\npaused for {PAUSE_NS * 1e-9:g} s: {step:.3f} rad at most from one update to the next")
    assert step < CONSTRAINT
    moving_arm.wait_for_motion()


def test_killed_node_leaves_the_arm_at_rest(moving_arm):
    """After `kill -9` of the node the arm comes to rest by itself, where its last plan ends."""
    moving_arm.wait_for_motion()
    killed_ns = moving_arm.kill("policy_node")
    moving_arm.spin_to(killed_ns + 2 * SECOND_NS)
    samples = moving_arm.samples().between(killed_ns, killed_ns + 2 * SECOND_NS)
    assert samples.excess(MAX_VELOCITY) < TOLERANCE
    print(f"\nkilled: at rest after {(rest_ns(samples) - killed_ns) * 1e-6:.0f} ms")
    assert rest_ns(samples) - killed_ns < FROZEN_NS + PLAN_AHEAD_NS + BRAKING_NS + SECOND_NS // 2
