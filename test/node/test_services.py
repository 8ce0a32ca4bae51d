"""The node's services are answered at once, whatever the node is doing."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition
from pi0_ttnn_ros.msg import PolicyStatus
from std_srvs.srv import Trigger

from pi0_ttnn_ros.rclpy_utils.qos import REQUESTS
from support.fake_robot import activate

CALLS, CALL_PERIOD = 400, 0.004  # s
ANSWER_TIME = 0.05  # s


def test_stop_while_the_policy_loads(loading):
    """~/stop is answered while configure loads the policy; nothing moves after activation, until ~/reset."""
    node, robot, configured = loading("/test_services_loading")
    robot.trigger("stop")
    assert not configured.done()
    node.inject()
    robot.spin_until(configured.done, "the end of configure")
    assert configured.result().success
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.STOPPED, "a status that says so")
    assert robot.receives_nothing_for(statuses=2)
    robot.trigger("reset")
    robot.wait_for_motion()


def test_every_call_of_a_storm_is_answered(robot, tiny_checkpoint):
    """The robot is stopped and reset at 250 Hz while it moves; all calls are answered, most of them within 50 ms.

    Regression: each stop kept the executor until the robot was at rest, and requests were dropped.
    """
    clients = {
        name: robot.node.create_client(Trigger, f"pi0_policy/{name}", qos_profile=REQUESTS)
        for name in ("stop", "reset")
    }
    activate(robot, tiny_checkpoint)
    robot.wait_for_motion()
    robot.spin_until(lambda: all(client.service_is_ready() for client in clients.values()), "the services")
    asked: list[float] = []
    answered: list[float] = []

    def call() -> None:
        if len(asked) < CALLS:
            begin = time.monotonic()
            future = clients["reset" if len(asked) % 2 else "stop"].call_async(Trigger.Request())
            future.add_done_callback(lambda _: answered.append(time.monotonic() - begin))
            asked.append(begin)

    timer = robot.node.create_timer(CALL_PERIOD, call)
    robot.spin_until(lambda: len(answered) == CALLS, "all answers")
    robot.node.destroy_timer(timer)
    assert np.median(answered) <= ANSWER_TIME
    robot.wait_for_motion()
