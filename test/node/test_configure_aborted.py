"""Loading a policy takes up to minutes: it ends when nobody needs the policy any more."""

from __future__ import annotations

import signal

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition

from support.processes import is_running
from support.waiting import wait_until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(loading, number):
    """A signal ends the node, and the process that loads the policy."""
    node, _, configured = loading("/test_aborted_signal")
    policy = node.policy_process
    assert node.stop(number) == 0
    assert not is_running(policy)
    assert not configured.done() and "Traceback" not in node.log


def test_shutdown(loading):
    """The node is shut down while it configures."""
    node, robot, configured = loading("/test_aborted_shutdown")
    policy = node.policy_process
    assert robot.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    robot.spin_until(configured.done, "the end of configure")
    assert not configured.result().success
    robot.wait_for_status(lambda status: status.lifecycle_state == "finalized", "a status that says so")
    assert not is_running(policy)


def test_cleanup(loading):
    """The node is cleaned up while it configures, and can be configured again."""
    node, robot, configured = loading("/test_aborted_cleanup")
    policy = node.policy_process
    assert not robot.change_state(Transition.TRANSITION_ACTIVATE)  # which is refused at once
    assert robot.change_state(Transition.TRANSITION_CLEANUP)
    robot.spin_until(configured.done, "the end of configure")
    assert not configured.result().success
    robot.wait_for_status(lambda status: "aborted" in status.last_error, "a status that says so")
    assert not is_running(policy)
    node.inject()
    assert robot.change_state(Transition.TRANSITION_CONFIGURE), robot.status.last_error


def test_node_is_killed(loading):
    """The process that loads the policy ends with the node, even if that is killed."""
    node, _, _ = loading("/test_aborted_kill")
    policy = node.policy_process
    node.kill()
    wait_until(lambda: not is_running(policy), "end of the policy process")
