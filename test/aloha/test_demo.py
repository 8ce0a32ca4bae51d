"""The main job as a whole, and what happens when parts of it go."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
if importlib.util.find_spec("gym_aloha") is None:
    pytest.skip("gym-aloha is not installed", allow_module_level=True)

from lifecycle_msgs.srv import ChangeState
from pi0_ttnn_ros.msg import ActionChunk, PolicyStatus

from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from support.processes import Listener
from support.waiting import TIMEOUT, wait_until

# The demo runs in the root namespace: a domain of its own keeps it from the other tests' nodes. Up to 101: the ports of
# those above may be taken by any other connection.
DOMAIN = (int(os.environ.get("ROS_DOMAIN_ID", "0")) + 50) % 100
MARK = f"PI0_TEST_DEMO={os.getpid()}"  # in the environment of all processes that these tests start


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)} | dict([MARK.split("=")]),
        start_new_session=True,
    )


def start_demo(out: Path, *arguments: str) -> subprocess.Popen[str]:
    return start("-m", "pi0_ttnn_ros.demo", "--out", str(out), *arguments)


@pytest.fixture(autouse=True)
def kill_what_is_left():
    """End what a failed test left: in the same domain its nodes would answer the next test's demo."""
    yield
    for pid in pids().values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def listener():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    listener = Listener("listener", "/", context)
    yield listener
    listener.close()
    rclpy.shutdown(context=context)


def pids() -> dict[str, int]:
    """Return the processes that these tests started by module: their command lines have `-m` and the module's name."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = status.read_bytes().decode().split("\0")
            environment = (status.parent / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if "-m" in words and MARK in environment:
            found[words[words.index("-m") + 1].rpartition(".")[2]] = int(status.parent.name)
    return found


def test_demo_writes_video_and_plots(tmp_path):
    """The demo moves the simulated robot, writes a video and pictures, and ends with one line of results."""
    demo = start_demo(tmp_path, "--seconds", "4")
    output, _ = demo.communicate(timeout=TIMEOUT)
    assert demo.returncode == 0, output
    summary = output.strip().splitlines()[-1]
    assert summary.startswith("inferences: ") and summary.endswith(" rad")
    assert int(summary.split()[1].rstrip(",")) >= 1
    for name in ("demo.mp4", "demo.png", "joints.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    wait_until(lambda: not pids(), "end of all processes")


def test_policy_survives_robot_restart(tmp_path, listener):
    """The robot node is killed mid-run; the policy node goes on and names what is stale; a new robot is driven."""
    statuses = listener.subscribe(PolicyStatus, "pi0_policy/status", LATCHED)
    chunks = listener.subscribe(ActionChunk, "pi0_policy/action_chunk")
    demo = start_demo(tmp_path, "--seconds", "100")
    try:
        listener.spin_until(lambda: len(chunks) > 2, label="chunks")
        # Without the demo's own process, which ends when one of its nodes dies.
        demo.send_signal(signal.SIGSTOP)
        os.kill(pids()["sim_robot"], signal.SIGKILL)
        listener.spin_until(
            lambda: statuses and "joint_states" in statuses[-1].stale_inputs, label="stale joint states"
        )
        assert statuses[-1].lifecycle_state == "active"
        count = len(chunks)
        robot = start("-m", "pi0_ttnn_ros.aloha.sim_robot")
        try:
            listener.spin_until(lambda: len(chunks) > count + 2, label="chunks for the new robot")
            assert statuses[-1].lifecycle_state == "active"
        finally:
            robot.kill()
            robot.wait()
    finally:
        demo.send_signal(signal.SIGCONT)
        demo.communicate(timeout=TIMEOUT)
    wait_until(lambda: not pids(), "end of all processes")


def test_ctrl_c_ends_all_processes(tmp_path, listener):
    """SIGINT to the demo's process group ends every process of it, without a traceback.

    Regression: processes ended one after the other, which took longer than five seconds on busy cores.
    """
    chunks = listener.subscribe(ActionChunk, "pi0_policy/action_chunk")
    demo = start_demo(tmp_path, "--seconds", "100")
    listener.spin_until(lambda: chunks, label="a chunk")
    os.killpg(demo.pid, signal.SIGINT)
    output, _ = demo.communicate(timeout=TIMEOUT)
    assert demo.returncode == 130 and "Traceback" not in output
    wait_until(lambda: not pids(), "end of all processes")
    logs = [log.read_text() for log in tmp_path.glob("*.log")]
    assert logs and not any("Traceback" in log for log in logs)


def test_bad_checkpoint_ends_the_demo(tmp_path):
    """The demo names the missing checkpoint and exits with status 1."""
    demo = start_demo(tmp_path, "--checkpoint", str(tmp_path / "nowhere"))
    output, _ = demo.communicate(timeout=TIMEOUT)
    assert demo.returncode == 1
    assert "nowhere is not a directory" in output and "Traceback" not in output
    wait_until(lambda: not pids(), "end of all processes")


def test_other_policy_node_is_refused(tmp_path, listener):
    """With a policy node already in the domain the demo ends; it would answer instead of the demo's.

    Regression: the demo said that its node could not be configured, and showed that node's log, which was empty.
    """
    other = start("-m", "pi0_ttnn_ros.node.policy_node")
    try:
        is_there = listener.node.create_client(ChangeState, "pi0_policy/change_state").service_is_ready
        listener.spin_until(is_there, label="the other policy node")
        demo = start_demo(tmp_path)
        output, _ = demo.communicate(timeout=TIMEOUT)
        assert demo.returncode == 1
        assert "another policy node is running: end it, or set another ROS_DOMAIN_ID" in output
    finally:
        other.send_signal(signal.SIGINT)
        other.communicate(timeout=TIMEOUT)
    wait_until(lambda: not pids(), "end of all processes")


@pytest.mark.parametrize("package", ["gym_aloha", "imageio"])
def test_missing_package_is_named(tmp_path, package):
    """Without a package of the demo one line names the extra to install."""
    hide = f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = ['--out', {str(tmp_path / 'out')!r}]; "
    demo = start("-c", hide + "from pi0_ttnn_ros.demo.__main__ import main; main()")
    output, _ = demo.communicate(timeout=TIMEOUT)
    assert demo.returncode == 1
    assert output == f"demo: {package} not installed: pip install 'pi0_ttnn_ros[demo]'\n"
    assert not (tmp_path / "out").exists()
