"""What the robot receives when its controllers fail, and when people stop it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from support.reasons import OVERLAY

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from pi0_ttnn_ros.msg import PolicyStatus
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.observation.stamps import nanoseconds
from support.fake_controller import TrajectoryServer
from support.fake_robot import (
    JOINTS,
    MAX_VELOCITY,
    FakeRobot,
    activate,
    assert_within_limits,
    bring_up,
    deactivate,
    is_hold,
)
from support.processes import Listener


def test_trajectory_subscriber_is_replaced(robot, tiny_checkpoint):
    """A subscriber of the trajectory goes and another one comes."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(1)
    listener = FakeRobot(robot.namespace)
    listener.alive = False
    listener.spin_until(lambda: len(listener.trajectories) > 2, label="trajectories")
    listener.close()
    robot.wait_for_chunks(2)
    another = FakeRobot(robot.namespace)
    another.alive = False
    another.spin_until(lambda: len(another.trajectories) > 2, label="trajectories for the new one")
    assert_within_limits(another.trajectories)
    another.close()


@pytest.mark.parametrize(
    ("kind", "message_type"), [("joint_trajectory", JointTrajectory), ("position", Float64MultiArray)]
)
def test_nobody_subscribes_to_commands(robot, tiny_checkpoint, kind, message_type):
    """The robot holds and says which topic it is, until somebody subscribes; then it starts where the robot is."""
    activate(robot, tiny_checkpoint, controllers=["arm"], arm={"type": kind, "topic": "arm/commands"})
    robot.wait_for_chunks(3)
    robot.wait_for_status(lambda status: f"nobody subscribes to {robot.namespace}/arm/commands" in status.reason, "it")
    assert robot.status.activity == PolicyStatus.HOLDING
    levels = [message.status[0].level for message in robot.diagnostics if "nobody subs" in message.status[0].message]
    assert levels and DiagnosticStatus.OK not in levels
    received = robot.listener.subscribe(message_type, "arm/commands", 1000)
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.MOVING, "a motion")
    robot.spin_until(lambda: received, label="a command")
    first = received[0].points[0].positions if kind == "joint_trajectory" else received[0].data
    np.testing.assert_allclose(first, robot.positions, atol=0.02)


def test_subscriber_of_commands_goes(start):
    """The robot holds while its controller is gone, and starts where the robot is when it comes back."""
    _, robot = start("/test_gone_subscriber", arm={"type": "joint_trajectory"}, controllers=["arm"])
    received: list[JointTrajectory] = []

    def subscribe():
        return robot.node.create_subscription(JointTrajectory, "arm/joint_trajectory", received.append, 1000)

    subscription = subscribe()
    bring_up(robot)
    robot.spin_until(lambda: any(not is_hold(command) for command in received), "a motion")
    robot.node.destroy_subscription(subscription)
    reason = "nobody subscribes to /test_gone_subscriber/arm/joint_trajectory"
    robot.wait_for_status(
        lambda status: status.activity == PolicyStatus.HOLDING and reason in status.reason, "a hold for it"
    )
    received.clear()
    subscribe()
    robot.spin_until(lambda: received, "a command")
    np.testing.assert_allclose(received[0].points[0].positions, robot.positions, atol=0.02)


def test_each_controller_receives_its_joints(robot, tiny_checkpoint):
    """Each controller receives its own joints only."""
    left = robot.listener.subscribe(JointTrajectory, "left/joint_trajectory")
    gripper = robot.listener.subscribe(Float64MultiArray, "gripper/commands")
    activate(
        robot,
        tiny_checkpoint,
        controllers=["left", "gripper"],
        left={"joints": JOINTS[:13]},
        gripper={"type": "position", "topic": "gripper/commands", "joints": JOINTS[13:]},
    )
    robot.spin_until(lambda: len(left) > 20 and len(gripper) > 20, label="commands for both")
    assert left[-1].joint_names == JOINTS[:13]
    assert all(len(message.data) == 1 for message in gripper)
    # The gripper rests above its limit and is led back, a step at a time.
    steps = np.diff([message.data[0] for message in gripper])
    assert np.abs(steps).max() <= MAX_VELOCITY * 0.04 and gripper[-1].data[0] < gripper[0].data[0]
    assert not robot.trajectories
    deactivate(robot)
    robot.spin_until(lambda: is_hold(left[-1]), label="a hold")


@pytest.mark.parametrize("failure", ["refused", "aborted", "gone"])
def test_action_controller_fails_and_recovers(robot, tiny_checkpoint, failure):
    """The robot holds while the status tells it, and goes on."""
    pytest.importorskip("control_msgs.action", reason=OVERLAY)
    server = TrajectoryServer(robot.node, "arm/follow_joint_trajectory")
    robot.trajectories = server.goals
    activate(
        robot,
        tiny_checkpoint,
        controllers=["arm"],
        arm={"type": "follow_joint_trajectory"},
    )
    robot.wait_for_chunks(2)
    robot.wait_for_motion()
    server.failure = failure
    if failure == "gone":
        server.close()
    told = {"refused": "refused the goal", "aborted": "code -4", "gone": "there is no action server"}[failure]
    robot.wait_for_status(
        lambda status: told in status.last_error and status.activity == PolicyStatus.HOLDING, "the failure"
    )
    server.failure = ""
    if failure == "gone":
        server = TrajectoryServer(robot.node, "arm/follow_joint_trajectory")
    taken = len(server.goals)
    robot.spin_until(lambda: len(server.goals) > taken + 3, label="more goals")
    robot.wait_for_status(
        lambda status: not status.last_error and status.activity == PolicyStatus.MOVING, "a status without it"
    )
    deactivate(robot)
    server.close()


def test_stop_is_sent_although_goals_are_refused(robot, tiny_checkpoint):
    """After a refused goal the hold of ~/stop is sent at once.

    Regression: for 1.5 s after a refusal nothing was sent, and the arm moved on by the goal before the refused one.
    """
    pytest.importorskip("control_msgs.action", reason=OVERLAY)
    server = TrajectoryServer(robot.node, "arm/follow_joint_trajectory")
    robot.trajectories = server.goals
    activate(robot, tiny_checkpoint, controllers=["arm"], arm={"type": "follow_joint_trajectory"})
    robot.wait_for_motion()
    server.failure, taken = "refused", len(server.received)
    robot.spin_until(lambda: len(server.received) > taken, label="a goal that is refused")
    server.failure = ""
    robot.trigger("stop")
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.STOPPED, "a status that says so")
    refused, hold = server.received[taken : taken + 2]
    assert nanoseconds(hold.header.stamp) - nanoseconds(refused.header.stamp) < 10**9
    deactivate(robot)
    server.close()


def test_action_server_that_does_not_answer(robot, tiny_checkpoint):
    """The robot holds while the status tells it, and moves again when the server answers."""
    pytest.importorskip("control_msgs.action", reason=OVERLAY)
    silent = Listener("silent", robot.namespace)
    server = TrajectoryServer(silent.node, "arm/follow_joint_trajectory")
    activate(robot, tiny_checkpoint, controllers=["arm"], arm={"type": "follow_joint_trajectory"})
    robot.wait_for_status(
        lambda status: "arm/follow_joint_trajectory: the action server has not answered" in status.last_error
        and status.activity == PolicyStatus.HOLDING,
        "the failure",
    )
    answering = threading.Event()
    spinning = threading.Thread(target=lambda: silent.spin_until(answering.is_set, "the end of the test"))
    spinning.start()
    taken = len(server.goals)
    robot.spin_until(lambda: len(server.goals) > taken + 3, label="more goals")
    robot.wait_for_status(
        lambda status: not status.last_error and status.activity == PolicyStatus.MOVING, "a status without it"
    )
    deactivate(robot)
    answering.set()
    spinning.join()
    server.close()
    silent.close()


def test_stop_holds_until_reset(robot, tiny_checkpoint):
    """~/stop holds the robot until ~/reset, through enabling and lifecycle transitions."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_motion()
    robot.trigger("stop")
    robot.wait_for_hold()
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.STOPPED, "a status that says so")
    robot.enable(True)
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    assert robot.receives_nothing_for(statuses=3)
    robot.trigger("reset")
    robot.wait_for_chunks(2)
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.MOVING, "a status that says so")


def test_disable_and_enable(robot, tiny_checkpoint):
    """While disabled nothing is commanded; enabled again the motion starts where others left the robot."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_motion()
    robot.enable(False)
    robot.wait_for_hold()
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.DISABLED, "a status that says so")
    # Others move it meanwhile, and the node sees where.
    robot.positions[0] = -0.4
    assert robot.receives_nothing_for(statuses=2)
    received = len(robot.trajectories)
    robot.enable(True)
    robot.spin_until(lambda: len(robot.trajectories) > received, label="a motion")
    assert robot.trajectories[received].points[0].positions[0] == pytest.approx(-0.4, abs=1e-6)


def test_dry_run(robot, tiny_checkpoint):
    """A dry run infers and publishes everything but commands, and can be switched while active."""
    activate(robot, tiny_checkpoint, dry_run=True)
    robot.wait_for_chunks(3)
    assert robot.status.dry_run and not robot.trajectories
    (result,) = robot.set_parameters(dry_run=False)
    assert result.successful
    robot.spin_until(lambda: robot.trajectories, label="a command")
    (result,) = robot.set_parameters(dry_run=True)
    assert result.successful
    robot.wait_for_hold()
    assert robot.receives_nothing_for(statuses=2)
