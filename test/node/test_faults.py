"""What the robot is told when something fails: real processes over DDS, faults injected from outside.

After each test all that the robot was told is checked: finite, within the limits, continuous, of no old chunk.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition
from pi0_ttnn_ros.msg import PolicyStatus
from std_msgs.msg import Empty, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.checkpoints.random_checkpoint import REST_POSE
from pi0_ttnn_ros.observation.stamps import nanoseconds
from support.fake_controller import TrajectoryServer
from support.fake_robot import (
    JOINTS,
    MAX_VELOCITY,
    Robot,
    activate,
    assert_no_old_chunks,
    assert_within_limits,
    deactivate,
    good_parameters,
    is_hold,
    points_of,
    ros_arguments,
)
from support.processes import Process, resident_memory

NAMESPACE = "/test_faults"
NODE = str(Path(__file__).parents[1] / "support/faulty_policy_node.py")


class FaultyNode(Process):
    """The policy node whose backend fails as `inject` says."""

    def __init__(self, folder, namespace: str, *ros_arguments: str) -> None:
        self._faults = folder / "faults.json"
        self.inject()
        super().__init__([NODE, str(self._faults)], folder / "log", *ros_arguments, namespace=namespace)

    def inject(self, **faults) -> None:
        """Replace what is injected; nothing for none. See `faulty_policy_server`."""
        new = self._faults.with_suffix(".new")
        new.write_text(json.dumps(faults))
        new.rename(self._faults)  # never half written

    @property
    def worker(self) -> int:
        """The process that infers."""
        (child,) = self.children()
        return child


@pytest.fixture(scope="module")
def context():
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture(scope="module")
def node(context, tmp_path_factory):
    node = FaultyNode(tmp_path_factory.mktemp("faults"), NAMESPACE)
    yield node
    node.kill()


@pytest.fixture
def robot(node):
    robot = Robot(NAMESPACE)
    robot.spin_until(lambda: robot.statuses, label="the node's first status")
    yield robot
    node.inject()
    deactivate(robot)
    robot.enable(True)
    robot.trigger("reset")
    assert node.process.poll() is None, node.log
    assert_within_limits(robot.trajectories)
    assert_no_old_chunks(robot)
    robot.close()


def holds_and_goes_on(robot: Robot, fail, mend, sign) -> None:
    """Act, fail, hold with a status as `sign` says, mend, and act again, without a restart."""
    robot.wait_for_chunks(2)
    robot.wait_for_motion()
    fail()
    robot.wait_for_status(sign, "a status that tells")
    robot.wait_for_hold()
    assert robot.status.lifecycle_state == "active"
    mend()
    robot.wait_for_chunks(2)
    robot.wait_for_status(lambda status: not status.stale_inputs and not status.last_error, "a status without trouble")
    robot.wait_for_motion()


# Inputs


def test_a_camera_dies_and_returns(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint, image_timeout=1.5, joint_state_timeout=1.5)
    holds_and_goes_on(
        robot,
        lambda: robot.silent.add("left_wrist_0_rgb"),
        robot.silent.clear,
        lambda status: status.stale_inputs == ["left_wrist_0_rgb"],
    )


def test_the_joint_states_die_and_return(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint, image_timeout=1.5, joint_state_timeout=1.5)
    holds_and_goes_on(
        robot,
        lambda: robot.silent.add("joint_states"),
        robot.silent.clear,
        lambda status: status.stale_inputs == ["joint_states"],
    )


def test_a_camera_repeats_one_image(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint, image_timeout=1.5)
    stamp_ns = robot.node.get_clock().now().to_msg()
    holds_and_goes_on(
        robot,
        lambda: robot.frozen.update(base_0_rgb=stamp_ns),
        robot.frozen.clear,
        lambda status: status.stale_inputs == ["base_0_rgb"],
    )


def test_one_slow_camera_among_fast_ones_sets_the_pace(robot, tiny_checkpoint):
    """Five images a second: with a tolerance of 30 ms there is an observation when one comes, and only then."""
    robot.slow["right_wrist_0_rgb"] = 4
    activate(robot, tiny_checkpoint, sync_tolerance=0.03)
    robot.wait_for_chunks(5)
    images = np.array(robot.image_stamps["right_wrist_0_rgb"])
    for chunk in robot.chunks:
        assert np.abs(images - nanoseconds(chunk.header.stamp)).min() <= 0.03e9


def test_cameras_that_are_never_in_step_are_named(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint, sync_tolerance=0.2, image_timeout=2.0)
    robot.wait_for_motion()
    # Each image has the stamp of 0.6 s before: fresh enough alone, but of another moment than the others.
    while "synchronisation" not in robot.status.stale_inputs:
        robot.frozen["base_0_rgb"] = (robot.node.get_clock().now() - rclpy.duration.Duration(seconds=0.6)).to_msg()
        count = len(robot.statuses)
        robot.spin_until(lambda count=count: len(robot.statuses) > count, label="a status")
    assert robot.status.sync_skew > 0.2
    robot.wait_for_hold()
    robot.frozen.clear()
    robot.wait_for_chunks(1)


def test_images_of_ten_megabytes(robot, tiny_checkpoint):
    robot.sizes["base_0_rgb"] = (1800, 1920)
    robot.slow["base_0_rgb"] = 10
    activate(robot, tiny_checkpoint, image_timeout=10.0, sync_tolerance=10.0)
    robot.wait_for_chunks(2)


def test_joint_states_lack_a_joint(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    holds_and_goes_on(
        robot,
        lambda: (robot.joint_names.pop(), robot.positions.pop()),
        lambda: (robot.joint_names.append(JOINTS[-1]), robot.positions.append(REST_POSE[-1])),
        lambda status: f"lack ['{JOINTS[-1]}']" in status.last_error,
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_joint_is_not_finite(robot, tiny_checkpoint, value):
    activate(robot, tiny_checkpoint)

    def put(position):
        robot.positions[3] = position

    holds_and_goes_on(robot, lambda: put(value), lambda: put(0.0), lambda status: "not finite" in status.last_error)


def test_the_robot_is_somewhere_else(robot, tiny_checkpoint):
    """Somebody holds the arm: it is not where it was commanded to be."""
    activate(robot, tiny_checkpoint, max_jump_time=1.0)
    robot.wait_for_motion()
    robot.positions[0] = -1.9
    robot.wait_for_status(lambda status: "max_jump_time" in status.last_error, "a refusal")
    robot.wait_for_hold()
    assert f"joint '{JOINTS[0]}'" in robot.status.last_error
    robot.positions[0] = 0.0
    robot.wait_for_chunks(1)


def test_the_heartbeat_is_lost_and_returns(robot, tiny_checkpoint):
    heartbeat = robot.node.create_publisher(Empty, "pi0_policy/heartbeat", 1)
    timer = robot.node.create_timer(0.1, lambda: heartbeat.publish(Empty()))
    activate(robot, tiny_checkpoint, heartbeat_timeout=1.0)
    holds_and_goes_on(robot, timer.cancel, timer.reset, lambda status: status.stale_inputs == ["heartbeat"])
    robot.node.destroy_timer(timer)


def test_an_instruction_grows_old_and_is_given_again(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint, instruction_timeout=3.0)
    robot.instruct("wave")
    holds_and_goes_on(
        robot,
        lambda: None,
        lambda: robot.instruct("go on"),
        lambda status: status.stale_inputs == ["instruction"],
    )


# Instructions


def test_instructions_change_in_the_middle_of_a_chunk_two_hundred_times_a_second(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(1)
    numbers = iter(range(400))
    timer = robot.node.create_timer(0.005, lambda: robot.instruct(f"number {next(numbers, 400)}"))
    robot.spin_until(lambda: robot.chunks[-1].instruction == "number 400", label="the last instruction")
    robot.node.destroy_timer(timer)
    assert len({chunk.instruction for chunk in robot.chunks}) > 2
    assert not robot.status.last_error


@pytest.mark.parametrize(
    "text",
    ["x" * 10**6, "fold\x00\x01\x1b[31m\n\tthe\u202e towel", "折叠毛巾 طي المنشفة 🧺", "'; rm -rf / #"],
    ids=["1 MB", "control characters", "other scripts", "code"],
)
def test_strange_instructions_are_taken_as_they_are(robot, tiny_checkpoint, text):
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(1)
    robot.instruct(text)
    text = text.partition("\x00")[0]  # a string ends there for DDS
    robot.spin_until(lambda: robot.chunks[-1].instruction == text, label="a chunk of it")
    robot.wait_for_status(lambda status: status.instruction == text[:200], "a status with it")


# Outputs


def test_whoever_listens_to_the_trajectory_dies_and_another_one_comes(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(1)
    listener = Robot(NAMESPACE)
    listener.spin_until(lambda: len(listener.trajectories) > 2, label="trajectories")
    listener.close()
    robot.wait_for_chunks(2)
    another = Robot(NAMESPACE)
    another.spin_until(lambda: len(another.trajectories) > 2, label="trajectories for the new one")
    assert_within_limits(another.trajectories)
    another.close()


def test_each_controller_is_told_its_own_joints(robot, tiny_checkpoint):
    left = robot.hear(JointTrajectory, "left/joint_trajectory")
    gripper = robot.hear(Float64MultiArray, "gripper/commands")
    activate(
        robot,
        tiny_checkpoint,
        controller_topics=["left/joint_trajectory", "gripper/commands"],
        controller_types=["joint_trajectory", "position"],
        controller_of_joint=[0] * 13 + [1],
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
def test_a_controller_with_an_action_fails_and_recovers(robot, tiny_checkpoint, failure):
    """The robot holds while the status tells it, and goes on."""
    pytest.importorskip("control_msgs.action", reason="control_msgs is not installed")
    server = TrajectoryServer(robot.node, "arm/follow_joint_trajectory")
    robot.trajectories = server.goals
    activate(
        robot,
        tiny_checkpoint,
        controller_topics=["arm/follow_joint_trajectory"],
        controller_types=["follow_joint_trajectory"],
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


# The device


def test_the_device_raises_in_the_middle(robot, node, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    holds_and_goes_on(
        robot,
        lambda: node.inject(raises="DRAM is on fire"),
        node.inject,
        lambda status: "RuntimeError: DRAM is on fire" in status.last_error,
    )
    assert "opened again" not in node.log


def test_the_model_says_nan(robot, node, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    holds_and_goes_on(
        robot, lambda: node.inject(nan=True), node.inject, lambda status: "not finite" in status.last_error
    )


def test_the_device_takes_its_process_down(robot, node, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    before = robot.status.restarts
    holds_and_goes_on(
        robot, lambda: node.inject(exits=3), node.inject, lambda status: "exit status 3" in status.last_error
    )
    assert robot.status.restarts > before


def test_the_process_that_infers_is_killed(robot, node, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    before = robot.status.restarts
    holds_and_goes_on(
        robot,
        lambda: os.kill(node.worker, signal.SIGKILL),
        lambda: None,
        lambda status: "process died" in status.last_error,
    )
    assert robot.status.restarts > before


def test_the_process_that_infers_hangs(robot, node, tiny_checkpoint):
    activate(robot, tiny_checkpoint, inference_timeout=2.0)
    before = robot.status.restarts
    holds_and_goes_on(
        robot,
        lambda: os.kill(node.worker, signal.SIGSTOP),
        lambda: None,
        lambda status: "the policy's process" in status.last_error,
    )
    assert robot.status.restarts > before


def test_the_device_cannot_be_opened_again_for_a_while(robot, node, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    holds_and_goes_on(
        robot,
        lambda: node.inject(exits=1, load_raises="the card is gone"),
        node.inject,
        lambda status: "the card is gone" in status.last_error,
    )


@pytest.mark.parametrize("strategy", ["synchronous", "asynchronous", "blended", "rtc"])
def test_inference_takes_three_hundred_milliseconds(robot, node, tiny_checkpoint, strategy):
    """The stream goes on during inference: the robot is never told to stop, and chunks follow each other."""
    node.inject(seconds=0.3)
    activate(robot, tiny_checkpoint, strategy=strategy, execution_horizon=10)
    robot.wait_for_chunks(5)
    node.inject()
    assert robot.status.strategy == strategy and not robot.status.last_error
    if strategy == "synchronous":
        assert any(is_hold(trajectory) for trajectory in robot.trajectories)


def test_inference_takes_ten_times_as_long(robot, node, tiny_checkpoint):
    """Longer than a chunk is: what comes is too old, the robot rests, and goes on when inference is fast again."""
    activate(robot, tiny_checkpoint)
    holds_and_goes_on(
        robot,
        lambda: node.inject(seconds=3.0),
        node.inject,
        lambda status: "old when it was ready" in status.last_error,
    )


# The clock


def test_the_clock_jumps_back(context, tiny_checkpoint, tmp_path):
    """A simulation is reset while the robot moves: it holds where it is, and goes on in the new time."""
    parameters = good_parameters(tiny_checkpoint) | {"use_sim_time": True}
    node = FaultyNode(tmp_path, NAMESPACE + "_clock", *ros_arguments(parameters))
    robot = Robot(NAMESPACE + "_clock")
    robot.clock = 500 * 10**9
    try:
        robot.spin_until(lambda: robot.statuses, label="the node's first status")
        assert robot.change_state(Transition.TRANSITION_CONFIGURE), robot.status.last_error
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
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
    finally:
        node.kill()
        robot.close()


# People


def test_stop_holds_until_reset_through_everything(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_motion()
    robot.trigger("stop")
    robot.wait_for_hold()
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.STOPPED, "a status that says so")
    robot.enable(True)
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    assert robot.hears_nothing_for(statuses=3)
    robot.trigger("reset")
    robot.wait_for_chunks(2)
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.MOVING, "a status that says so")


def test_disabled_it_leaves_the_robot_to_others_and_goes_on_from_where_they_put_it(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_motion()
    robot.enable(False)
    robot.wait_for_hold()
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.DISABLED, "a status that says so")
    # Others move it meanwhile, and the node sees where.
    robot.positions[0] = -0.4
    assert robot.hears_nothing_for(statuses=2)
    heard = len(robot.trajectories)
    robot.enable(True)
    robot.spin_until(lambda: len(robot.trajectories) > heard, label="a motion")
    assert robot.trajectories[heard].points[0].positions[0] == pytest.approx(-0.4, abs=1e-6)


def test_a_dry_run_does_everything_but_command(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint, dry_run=True)
    robot.wait_for_chunks(3)
    assert robot.status.dry_run and not robot.trajectories
    (result,) = robot.set_parameters(dry_run=False)
    assert result.successful
    robot.spin_until(lambda: robot.trajectories, label="a command")
    (result,) = robot.set_parameters(dry_run=True)
    assert result.successful
    robot.wait_for_hold()
    assert robot.hears_nothing_for(statuses=2)


def test_parameters_change_while_the_robot_moves(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(1)
    (result,) = robot.set_parameters(max_velocity=[9.0] * 14)
    assert not result.successful and "clean up the node first" in result.reason
    (result,) = robot.set_parameters(speed_scaling=2.0)
    assert not result.successful
    (result,) = robot.set_parameters(speed_scaling=0.1)
    assert result.successful
    robot.wait_for_status(lambda status: status.speed_scaling == pytest.approx(0.1), "a status with it")
    heard = len(robot.trajectories)
    robot.spin_until(lambda: len(robot.trajectories) > heard + 30, label="slow trajectories")
    _, _, velocities = points_of(robot.trajectories[-1])
    assert np.abs(velocities).max() <= 0.1 * MAX_VELOCITY * 1.001


def test_a_thousand_times_active_and_inactive(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint, instruction="")
    for _ in range(1000):
        assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    assert not robot.trajectories
    robot.instruct("wave")
    robot.wait_for_chunks(2)
    assert not robot.status.last_error


@pytest.mark.slow
def test_twenty_times_configured_and_cleaned_up_in_flat_memory(context, tiny_checkpoint, tmp_path):
    node = FaultyNode(tmp_path, NAMESPACE + "_again", *ros_arguments(good_parameters(tiny_checkpoint)))
    robot = Robot(NAMESPACE + "_again")
    try:
        robot.spin_until(lambda: robot.statuses, label="the node's first status")
        sizes = []
        for _ in range(20):
            assert robot.change_state(Transition.TRANSITION_CONFIGURE), robot.status.last_error
            assert robot.change_state(Transition.TRANSITION_CLEANUP)
            sizes.append(resident_memory(node.process.pid))
        assert np.polyfit(range(15), sizes[5:], 1)[0] < 0.2, sizes
    finally:
        node.kill()
        robot.close()


def test_sigterm_in_the_middle_of_an_inference_ends_with_a_hold(context, tiny_checkpoint, tmp_path):
    node = FaultyNode(tmp_path, NAMESPACE + "_term", *ros_arguments(good_parameters(tiny_checkpoint)))
    robot = Robot(NAMESPACE + "_term")
    try:
        robot.spin_until(lambda: robot.statuses, label="the node's first status")
        assert robot.change_state(Transition.TRANSITION_CONFIGURE), robot.status.last_error
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
        robot.wait_for_motion()
        worker = node.worker
        node.inject(seconds=60.0)
        robot.spin_until(lambda: any(not is_hold(heard) for heard in robot.trajectories[-2:]), label="a motion")
        assert node.stop(signal.SIGTERM, timeout=15.0) == 0
        robot.wait_for_hold()
        assert_within_limits(robot.trajectories)
        assert not os.path.exists(f"/proc/{worker}")
    finally:
        node.kill()
        robot.close()


def test_the_node_itself_is_killed(context, tiny_checkpoint, tmp_path):
    """Nothing can be published any more: the last plan that the controller has ends at rest."""
    node = FaultyNode(tmp_path, NAMESPACE + "_kill", *ros_arguments(good_parameters(tiny_checkpoint)))
    robot = Robot(NAMESPACE + "_kill")
    try:
        robot.spin_until(lambda: robot.statuses, label="the node's first status")
        assert robot.change_state(Transition.TRANSITION_CONFIGURE), robot.status.last_error
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
        robot.wait_for_motion()
        node.kill()
        times, _, velocities = points_of(robot.trajectories[-1])
        assert not velocities[times >= 10**9].any()
        assert_within_limits(robot.trajectories)
    finally:
        node.kill()
        robot.close()
