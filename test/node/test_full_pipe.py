"""The node's output is not read any more, as after Ctrl-S: the node does what it does."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from support.fake_robot import FakeRobot, bring_up, good_parameters, is_hold, ros_arguments
from support.pipes import fill, read_until
from support.processes import Process

NAMESPACE = "/test_full_pipe"


def test_full_pipe(ros, tiny_checkpoint, tmp_path):
    """Nobody reads the node's output: it commands, holds and stops as ever.

    Regression: a log line stopped the command thread, and with it ~/stop.
    """
    reader, writer = os.pipe()
    parameters = good_parameters(tiny_checkpoint) | {"image_timeout": 1.5}
    node = Process("node.policy_node", tmp_path / "log", *ros_arguments(parameters), namespace=NAMESPACE, output=writer)
    robot = FakeRobot(NAMESPACE)
    try:
        bring_up(robot)
        robot.wait_for_motion()
        assert len(node.children()) == 1  # the policy process
        fill(writer)
        robot.silent.add("base_0_rgb")  # which is logged
        robot.wait_for_hold()
        robot.silent.clear()
        robot.wait_for_motion()
        robot.trigger("stop")
        robot.wait_for_hold()
        robot.trigger("reset")
        received = len(robot.trajectories)
        robot.spin_until(lambda: any(not is_hold(each) for each in robot.trajectories[received:]), "a motion")
        read_until(reader, b"reset [state=active")
        assert node.stop() == 0
    finally:
        node.kill()
        robot.close()
        os.close(reader)
        os.close(writer)
