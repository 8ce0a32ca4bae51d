"""What the robot receives when inference fails, hangs or is late."""

from __future__ import annotations

import os
import resource
import signal

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from pi0_ttnn_ros.msg import PolicyStatus

from support.fake_robot import activate, assert_holds_and_resumes, error_of, is_hold


def test_backend_raises(robot, node, inject, tiny_checkpoint):
    """An exception of the backend holds the robot without a restart of the policy process."""
    activate(robot, tiny_checkpoint)
    restarts, tracebacks = node.log.count("event=restarted"), node.log.count("Traceback")
    assert_holds_and_resumes(
        robot,
        lambda: inject(raises="DRAM is on fire"),
        inject,
        lambda status: "RuntimeError: DRAM is on fire" in status.last_error,
    )
    assert node.log.count("event=restarted") == restarts
    # Where it was raised is in the log, once and not for every inference.
    assert node.log.count("Traceback") == tracebacks + 1 and "in sample_actions" in node.log


def test_actions_are_nan(robot, inject, tiny_checkpoint):
    """A chunk with NaN is refused."""
    activate(robot, tiny_checkpoint)
    assert_holds_and_resumes(robot, lambda: inject(nan=True), inject, lambda status: "not finite" in status.last_error)


def test_policy_process_exits(robot, inject, tiny_checkpoint):
    """The policy process exits: it is restarted."""
    activate(robot, tiny_checkpoint)
    before = robot.status.restarts
    assert_holds_and_resumes(
        robot, lambda: inject(exits=3), inject, lambda status: "exit status 3" in status.last_error
    )
    assert robot.status.restarts > before


def test_policy_process_is_killed(robot, node, tiny_checkpoint):
    """The policy process is killed: it is restarted."""
    activate(robot, tiny_checkpoint)
    before = robot.status.restarts
    assert_holds_and_resumes(
        robot,
        lambda: os.kill(node.policy_process, signal.SIGKILL),
        lambda: None,
        lambda status: "process died" in status.last_error,
    )
    assert robot.status.restarts > before


def test_policy_process_hangs(robot, node, tiny_checkpoint):
    """The policy process hangs: it is restarted after `inference_timeout`."""
    activate(robot, tiny_checkpoint, inference_timeout=2.0)
    before = robot.status.restarts
    assert_holds_and_resumes(
        robot,
        lambda: os.kill(node.policy_process, signal.SIGSTOP),
        lambda: None,
        lambda status: "the policy process" in status.last_error,
    )
    assert robot.status.restarts > before


def test_inference_under_way_is_named(robot, node, inject, tiny_checkpoint):
    """While an inference takes unusually long, the status says for how long, before `inference_timeout`."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(5)
    assert_holds_and_resumes(
        robot,
        lambda: inject(seconds=5.0),
        inject,
        lambda status: "inference has been running for" in status.reason and status.activity == PolicyStatus.HOLDING,
    )


def test_restart_fails_for_a_while(robot, inject, tiny_checkpoint):
    """The device cannot be opened for a while: restarts are retried."""
    activate(robot, tiny_checkpoint)
    assert_holds_and_resumes(
        robot,
        lambda: inject(exits=1, load_raises="the card is gone"),
        inject,
        lambda status: "the card is gone" in status.last_error,
    )


def test_no_file_descriptors_for_a_restart(robot, node, tiny_checkpoint):
    """No file descriptors are left when the policy process has to be restarted: restarts are retried.

    Regression: the node held for ever, with the error of the first death in its status.
    """
    activate(robot, tiny_checkpoint)
    soft, hard = resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)

    def fail():
        resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        os.kill(node.policy_process, signal.SIGKILL)

    def mend():
        resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (soft, hard))

    assert_holds_and_resumes(robot, fail, mend, lambda status: "Too many open files" in status.last_error)


@pytest.mark.parametrize("strategy", ["synchronous", "asynchronous", "blended", "rtc"])
def test_slow_inference(robot, inject, tiny_checkpoint, strategy):
    """The stream goes on during inference: the robot is never told to stop, and chunks follow each other."""
    inject(seconds=0.3)
    activate(robot, tiny_checkpoint, strategy=strategy, execution_horizon=10)
    robot.wait_for_chunks(5)
    inject()
    assert robot.status.strategy == strategy and not error_of(robot.status)
    if strategy == "synchronous":
        assert any(is_hold(trajectory) for trajectory in robot.trajectories)


def test_inference_slower_than_a_chunk(robot, inject, tiny_checkpoint):
    """Longer than a chunk is: what comes is too old, the robot rests, and goes on when inference is fast again."""
    activate(robot, tiny_checkpoint)
    assert_holds_and_resumes(
        robot,
        lambda: inject(seconds=3.0),
        inject,
        lambda status: "old when it was ready" in status.last_error,
    )
