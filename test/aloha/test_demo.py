"""The main job as a whole, and what happens when parts of it go."""

from __future__ import annotations

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

from pi0_ttnn_ros.msg import ActionChunk, PolicyStatus

from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from support.processes import Listener

# The demo runs in the root namespace: a domain of its own keeps it from the other tests' nodes. Up to 101: the ports of
# those above may be taken by any other connection.
DOMAIN = (int(os.environ.get("ROS_DOMAIN_ID", "0")) + 50) % 100


def start_demo(out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pi0_ttnn_ros.demo", "--out", str(out), *arguments]
    environment = os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )


@pytest.fixture
def listener():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    listener = Listener("listener", "/", context)
    yield listener
    listener.close()
    rclpy.shutdown(context=context)


def pids_of(out: Path) -> dict[str, int]:
    """Return the demo's nodes by module: their command lines are Python's with the module's name."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = status.read_bytes().decode().split("\0")
            environment = (status.parent / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if "-m" in words and f"ROS_DOMAIN_ID={DOMAIN}" in environment:
            found[words[words.index("-m") + 1].rpartition(".")[2]] = int(status.parent.name)
    return found


def test_demo_writes_video_and_plots(tmp_path):
    """The demo moves the simulated robot, writes a video and pictures, and ends with one line of results."""
    demo = start_demo(tmp_path, "--seconds", "4")
    output, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, output
    summary = output.strip().splitlines()[-1]
    assert summary.startswith("inferences: ") and summary.endswith(" rad")
    assert int(summary.split()[1].rstrip(",")) >= 1
    for name in ("demo.mp4", "demo.png", "joints.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    assert not pids_of(tmp_path)


def test_policy_survives_robot_restart(tmp_path, listener):
    """The robot node is killed mid-run; the policy node goes on and names what is stale; a new robot is driven."""
    statuses = listener.subscribe(PolicyStatus, "pi0_policy/status", LATCHED)
    chunks = listener.subscribe(ActionChunk, "pi0_policy/action_chunk")
    demo = start_demo(tmp_path, "--seconds", "100")
    try:
        listener.spin_until(lambda: len(chunks) > 2, label="chunks")
        # Without the demo's own process, which ends when one of its nodes dies.
        demo.send_signal(signal.SIGSTOP)
        os.kill(pids_of(tmp_path)["sim_robot"], signal.SIGKILL)
        listener.spin_until(
            lambda: statuses and "joint_states" in statuses[-1].stale_inputs, label="stale joint states"
        )
        assert statuses[-1].lifecycle_state == "active"
        count = len(chunks)
        environment = os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)}
        robot = subprocess.Popen([sys.executable, "-m", "pi0_ttnn_ros.aloha.sim_robot"], env=environment)
        try:
            listener.spin_until(lambda: len(chunks) > count + 2, label="chunks for the new robot")
            assert statuses[-1].lifecycle_state == "active"
        finally:
            robot.kill()
            robot.wait()
    finally:
        demo.send_signal(signal.SIGCONT)
        demo.communicate(timeout=30)
    assert not pids_of(tmp_path)


def test_ctrl_c_ends_all_processes(tmp_path, listener):
    """SIGINT to the demo's process group ends every process of it, without a traceback.

    Regression: processes ended one after the other, which took longer than five seconds on busy cores.
    """
    chunks = listener.subscribe(ActionChunk, "pi0_policy/action_chunk")
    demo = start_demo(tmp_path, "--seconds", "100")
    listener.spin_until(lambda: chunks, label="a chunk")
    os.killpg(demo.pid, signal.SIGINT)
    output, _ = demo.communicate(timeout=5)
    assert demo.returncode == 130 and "Traceback" not in output
    assert not pids_of(tmp_path)
    logs = [log.read_text() for log in tmp_path.glob("*.log")]
    assert logs and not any("Traceback" in log for log in logs)


def test_bad_checkpoint_ends_the_demo(tmp_path):
    """The demo names the missing checkpoint and exits with status 1."""
    demo = start_demo(tmp_path, "--checkpoint", str(tmp_path / "nowhere"))
    output, _ = demo.communicate(timeout=120)
    assert demo.returncode == 1
    assert "nowhere is not a directory" in output and "Traceback" not in output
    assert not pids_of(tmp_path)
