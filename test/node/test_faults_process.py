"""What the robot receives when the node is restarted, stopped or killed, or its clock jumps."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition
from pi0_ttnn_ros.msg import PolicyStatus
from std_msgs.msg import Float64MultiArray

from pi0_ttnn_ros.observation.stamps import nanoseconds
from support.fake_robot import (
    EVERYTHING,
    JOINTS,
    MAX_VELOCITY,
    activate,
    assert_within_limits,
    bring_up,
    error_of,
    is_hold,
    points_of,
)
from support.processes import resident_memory


def test_the_clock_jumps_back(start):
    """A simulation is reset while the robot moves: it holds where it is, and goes on in the new time."""
    node, robot = start("/test_faults_clock", use_sim_time=True)
    robot.clock = 500 * 10**9
    bring_up(robot)
    robot.wait_for_chunks(3)
    robot.clock = 100 * 10**9
    robot.spin_until(lambda: nanoseconds(robot.chunks[-1].header.stamp) < 200e9, label="a chunk in the new time")
    robot.wait_for_chunks(2)
    old = [trajectory for trajectory in robot.trajectories if nanoseconds(trajectory.header.stamp) > 300e9]
    new = [trajectory for trajectory in robot.trajectories if nanoseconds(trajectory.header.stamp) < 300e9]
    assert_within_limits(old)
    assert_within_limits(new)
    # Where the robot was told to be goes on from one time to the other.
    there, here = points_of(old[-1])[1], points_of(new[0])[1]
    assert (here[0] > there.min(axis=0) - 0.1).all() and (here[0] < there.max(axis=0) + 0.1).all()
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    robot.wait_for_hold()
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    robot.wait_for_motion()
    # While the simulated time stands still the robot cannot be seen to rest, but it is told to come to rest.
    assert node.stop() == 0
    assert not points_of(robot.trajectories[-1])[2][-1].any()


def test_the_clock_stops(start):
    """/clock stops: nothing is published any more, the status says why, and the motion resumes with the clock.

    Regression: the same plan was published for ever.
    """
    _, robot = start("/test_faults_clock_stops", use_sim_time=True)
    robot.clock = 500 * 10**9
    bring_up(robot)
    robot.wait_for_motion()
    robot.clock_runs = False
    robot.wait_for_status(lambda status: "/clock has stopped" in status.reason, "a status that says so")
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.HOLDING, "a status of a hold")
    assert robot.receives_nothing_for(statuses=3)
    robot.spin_until(lambda: "/clock has stopped" in robot.diagnostics[-1].status[0].message, "diagnostics")
    stopped = len(robot.trajectories)
    robot.clock_runs = True
    robot.spin_until(lambda: any(not is_hold(each) for each in robot.trajectories[stopped:]), "a motion")
    robot.wait_for_chunks(2)


def test_parameters_change_while_the_robot_moves(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(1)
    (result,) = robot.set_parameters(joint_limits={JOINTS[0]: {"max_velocity": 9.0}})
    assert not result.successful and "clean up the node first" in result.reason
    (result,) = robot.set_parameters(speed_scaling=2.0)
    assert not result.successful
    (result,) = robot.set_parameters(speed_scaling=0.1)
    assert result.successful
    robot.wait_for_status(lambda status: status.speed_scaling == pytest.approx(0.1), "a status with it")
    received = len(robot.trajectories)
    robot.spin_until(lambda: len(robot.trajectories) > received + 30, label="slow trajectories")
    _, _, velocities = points_of(robot.trajectories[-1])
    assert np.abs(velocities).max() <= 0.1 * MAX_VELOCITY * 1.001


def test_a_thousand_activations(robot, tiny_checkpoint):
    """The node is deactivated and activated a thousand times."""
    activate(robot, tiny_checkpoint, instruction="")
    for _ in range(1000):
        assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    assert not robot.trajectories
    robot.instruct("wave")
    robot.wait_for_chunks(2)
    assert not error_of(robot.status)


@pytest.mark.slow
def test_memory_over_twenty_configures(start):
    """Configuring and cleaning up twenty times takes no more memory.

    Regression: frozen garbage of each session was never freed.
    """
    node, robot = start("/test_faults_again")
    robot.spin_until(lambda: robot.statuses, label="the node's first status")
    sizes = []
    for _ in range(20):
        assert robot.change_state(Transition.TRANSITION_CONFIGURE), robot.status.last_error
        assert robot.change_state(Transition.TRANSITION_CLEANUP)
        sizes.append(resident_memory(node.process.pid))
    assert np.polyfit(range(15), sizes[5:], 1)[0] < 0.2, sizes


def test_sigterm_during_inference(start):
    """SIGTERM in the middle of an inference ends node and policy process, with a hold."""
    node, robot = start("/test_faults_term")
    bring_up(robot)
    robot.wait_for_motion()
    worker = node.policy_process
    node.inject(seconds=3600.0)
    robot.spin_until(lambda: any(not is_hold(received) for received in robot.trajectories[-2:]), label="a motion")
    assert node.stop(signal.SIGTERM) == 0
    robot.wait_for_hold()
    assert_within_limits(robot.trajectories)
    assert not os.path.exists(f"/proc/{worker}")


def test_node_is_paused(start):
    """After a pause of the node, the next position commanded is as near to the last one as any.

    Regression: after 0.3 s it was 0.3 rad away.
    """
    controller = {"type": "position", "topic": "arm/commands"}
    node, robot = start("/test_faults_pause", controllers=["arm"], arm=controller)
    commands = robot.listener.subscribe(Float64MultiArray, "arm/commands", EVERYTHING)

    def obey():
        robot.positions = [*commands[-1].data] if commands else robot.positions

    robot.node.create_timer(0.01, obey)
    bring_up(robot)
    for pause_ns in (100_000_000, 300_000_000, 2_000_000_000):
        seen = len(commands)
        robot.spin_until(lambda seen=seen: moves(commands[seen:], steps=10), label="a motion")
        node.process.send_signal(signal.SIGSTOP)
        end_ns = robot.node.get_clock().now().nanoseconds + pause_ns
        robot.spin_until(lambda end_ns=end_ns: robot.node.get_clock().now().nanoseconds > end_ns, label="the pause")
        node.process.send_signal(signal.SIGCONT)
    seen = len(commands)
    robot.spin_until(lambda: moves(commands[seen:], steps=10), label="a motion")
    steps = np.diff([command.data for command in commands], axis=0)
    assert np.abs(steps).max() <= MAX_VELOCITY * 0.02 + 1e-6


def moves(commands: list[Float64MultiArray], steps: int) -> bool:
    """Return whether the last `steps` commands each differ from the one before."""
    positions = np.array([command.data for command in commands[-steps - 1 :]])
    return len(positions) > steps and np.diff(positions, axis=0).any(axis=1).all()


def test_node_is_killed(start):
    """Nothing can be published any more: the last plan that the controller has ends at rest."""
    node, robot = start("/test_faults_kill")
    bring_up(robot)
    robot.wait_for_motion()
    node.kill()
    times, _, velocities = points_of(robot.trajectories[-1])
    assert not velocities[times >= 10**9].any()
    assert_within_limits(robot.trajectories)
