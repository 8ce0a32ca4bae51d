"""What this package says of ros2_control's controllers, tried with the real ones and mock hardware."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from support.mock_arm import DESCRIPTION, JOINTS, Controllers, Samples, parabolas, require_ros2_control

require_ros2_control()

from action_msgs.msg import GoalStatus
from control_msgs.action import FollowJointTrajectory
from rclpy.action import ActionClient
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.aloha.trajectory_follower import TrajectoryFollower, Waypoints
from pi0_ttnn_ros.controllers.action import FollowTrajectoryController, ParallelGripperController
from pi0_ttnn_ros.controllers.base import ControllerSetup, joint_trajectory
from pi0_ttnn_ros.controllers.topic import TrajectoryController
from pi0_ttnn_ros.execution.chunk_executor import ChunkExecutor, Execution, Plan
from pi0_ttnn_ros.execution.command_loop import CommandLoop
from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.observation.stamps import nanoseconds

pytestmark = pytest.mark.controllers

PERIOD_NS = 20_000_000
SECOND_NS = 10**9
POINTS = 151  # of a motion of three seconds
SPEED = 0.2  # rad/s, at most
TOLERANCE = 0.01  # rad
TURN = 70  # the point from which another motion brakes instead
LIMITS = Limits(tuple(JOINTS), *(np.full(len(JOINTS), value) for value in (-10.0, 10.0, 1.0, 5.0)))
SETUP = ControllerSetup("", list(range(len(JOINTS))), JOINTS, stamped=True, max_effort=0.0)


@pytest.fixture(scope="module")
def arm(ros, tmp_path_factory):
    arm = Controllers(tmp_path_factory.mktemp("arm"), "/test_joint_trajectory_controller")
    yield arm
    arm.close()


@pytest.fixture(scope="module")
def publisher(arm):
    """A publisher of trajectories, which the controller receives: it has moved the arm a little."""
    publisher = arm.listener.node.create_publisher(JointTrajectory, "arm_controller/joint_trajectory", 10)
    near = arm.positions() + 0.002
    nudge = joint_trajectory(replace(SETUP, stamped=False), plan(0, near, np.zeros((3, len(JOINTS)))))
    arm.listener.spin_until(
        lambda: publisher.publish(nudge) or np.allclose(arm.positions(), near), label="the controller's obedience"
    )
    return publisher


@pytest.fixture(scope="module")
def client(arm):
    client = ActionClient(arm.listener.node, FollowJointTrajectory, "arm_controller/follow_joint_trajectory")
    arm.listener.spin_until(client.server_is_ready, label="the controller's action server")
    return client


@pytest.fixture(params=["topic", "action"])
def send(request, arm, publisher, client):
    """A function that commands a plan, by the topic or by the action."""

    def send(plan: Plan) -> None:
        if request.param == "topic":
            publisher.publish(joint_trajectory(SETUP, plan))
        else:
            accepted(arm, client, joint_trajectory(SETUP, plan))

    return send


def out_and_back(start_ns: int, positions: np.ndarray) -> Plan:
    """Return a motion of all joints away from their positions and back."""
    times = np.linspace(0.0, 2 * np.pi, POINTS)
    return plan(start_ns, positions, np.tile(SPEED * np.sin(times)[:, None], len(JOINTS)))


def turned(motion: Plan) -> Plan:
    """Return the same motion up to the point TURN, from where it brakes."""
    velocities = motion.velocities.copy()
    velocities[TURN:] = 0
    velocities[TURN : TURN + 10] = np.linspace(motion.velocities[TURN], np.zeros(len(JOINTS)), 10)
    return plan(motion.stamp_ns, motion.positions[0], velocities)


def plan(start_ns: int, positions: np.ndarray, velocities: np.ndarray) -> Plan:
    """Return the motion whose velocities change evenly between the points."""
    steps = (velocities[:-1] + velocities[1:]) / 2 * PERIOD_NS * 1e-9
    path = positions + np.concatenate([np.zeros((1, len(JOINTS))), np.cumsum(steps, axis=0)])
    velocities[-1] = 0
    times_ns = PERIOD_NS * np.arange(len(path), dtype=np.int64)
    return Plan(start_ns, start_ns + PERIOD_NS, start_ns, times_ns, path, velocities, path[1])


def accepted(arm, client, trajectory):
    """Send a goal and return its handle; the test fails when the goal is refused."""
    handle = answer(arm, client, trajectory)
    assert handle.accepted, arm.log
    return handle


def answer(arm, client, trajectory):
    """Send a goal and return the answer."""
    sending = client.send_goal_async(FollowJointTrajectory.Goal(trajectory=trajectory))
    arm.listener.spin_until(sending.done, label="an answer to the goal")
    return sending.result()


def result(arm, handle):
    """Return how a goal ended."""
    getting = handle.get_result_async()
    arm.listener.spin_until(getting.done, label="the goal's result")
    return getting.result()


def followed(arm, motion: Plan, start_ns: int) -> Samples:
    """Wait for the end of a motion; return the samples from a moment on, which must be on it."""
    arm.spin_to(motion.end_ns)
    samples = arm.samples().between(start_ns, motion.end_ns)
    waypoints = Waypoints(0, motion.times_ns, motion.positions, motion.velocities)
    positions, velocities = parabolas(waypoints, samples.times_ns - motion.stamp_ns)
    # The stamps are those of the update, and the trajectory is sampled a little before or after.
    assert np.abs(samples.positions - positions).max() < SPEED * 0.01
    positions, velocities = parabolas(waypoints, samples.since_start_ns)
    np.testing.assert_allclose(samples.positions, positions, atol=1e-6)
    np.testing.assert_allclose(samples.velocities, velocities, atol=1e-4)
    return samples


def test_motion_is_the_planned_one(arm, send):
    """Between two points a joint accelerates evenly: the cubic of a controller is the parabola that was planned."""
    motion = out_and_back(arm.now_ns + SECOND_NS // 2, arm.positions())
    send(motion)
    samples = followed(arm, motion, motion.stamp_ns)
    assert np.ptp(samples.measured, axis=0).min() > 0.1
    # The hardware is where it was commanded to be one update before.
    assert np.abs(samples.measured - samples.positions).max() < SPEED * 0.03


def test_replacement_does_not_jump(arm, send):
    """A trajectory that replaces another one, and agrees with it for a while, is entered without a jump."""
    motion = out_and_back(arm.now_ns + SECOND_NS // 2, arm.positions())
    send(motion)
    arm.spin_to(motion.stamp_ns + SECOND_NS // 4)
    send(turned(motion))
    samples = followed(arm, turned(motion), motion.stamp_ns)
    assert samples.excess(SPEED) < TOLERANCE


@pytest.mark.parametrize(
    "kind, stamped, excess",
    [("joint_trajectory", True, 1.1), ("follow_joint_trajectory", True, 1.1), ("joint_trajectory", False, 4.0)],
)
def test_replanned_motion(arm, kind, stamped, excess):
    """A motion that is planned 50 times a second keeps its limits in the controller, too, if its plans are stamped."""
    setup = replace(SETUP, topic=f"arm_controller/{kind}", stamped=stamped)
    controller_class = {"joint_trajectory": TrajectoryController}.get(kind, FollowTrajectoryController)
    controller = controller_class(arm.listener.node, setup)
    arm.listener.spin_until(lambda: not controller.error, label="the controller")
    executor = ChunkExecutor(LIMITS, Execution("asynchronous", 0.02, 0.02, max_chunk_age=2.0, max_jump_time=10.0))
    rest, start_ns, errors = arm.positions(), arm.now_ns, []

    def measured() -> tuple[np.ndarray, int]:
        return arm.positions(), arm.now_ns

    loop = CommandLoop(executor, [controller], lambda: arm.now_ns, 0.02, lambda: True, measured, errors.append)
    try:
        loop.open(dry=False)
        for number in range(1, 21):
            arm.spin_to(start_ns + number * SECOND_NS // 10)
            now_ns = arm.now_ns
            elapsed = (now_ns - start_ns) * 1e-9 + 0.02 * np.arange(50)
            actions = rest + 0.3 * (1 - np.cos(np.pi * elapsed))[:, None]
            loop.add(ActionChunk(actions.astype(np.float32), "", now_ns, 0.0), arm.positions())
        end_ns = arm.now_ns
    finally:
        stopping = threading.Thread(target=loop.close)
        stopping.start()
        arm.spin_to(arm.now_ns + SECOND_NS)
        stopping.join()
        controller.close()
    samples = arm.samples().between(start_ns, end_ns + SECOND_NS)
    elapsed = np.diff(samples.times_ns)[:, None] * 1e-9
    accelerations = np.abs(np.diff(samples.velocities, axis=0)) / elapsed
    highest, usual = accelerations.max(), np.percentile(accelerations, 99)
    print(f"\n{setup.topic}, {stamped=}: acceleration {highest:.1f} rad/s^2 at most, 99 % below {usual:.1f}")
    assert not errors and np.ptp(samples.measured, axis=0).min() > 0.3
    assert samples.excess(LIMITS.max_velocity.max()) < TOLERANCE
    assert usual <= LIMITS.max_acceleration.max() * excess


def test_late_trajectory_is_entered_at_once(arm, publisher):
    """A trajectory that arrives late is entered where it is by now, without a transition: the joints jump there."""
    rest, sent_ns = arm.positions(), arm.now_ns
    motion = out_and_back(sent_ns - SECOND_NS // 2, rest)
    publisher.publish(joint_trajectory(SETUP, motion))
    arm.listener.spin_until(lambda: not np.allclose(arm.positions(), rest, atol=0.03), label="the motion")
    arm.spin_to(arm.now_ns)
    samples = arm.samples().between(sent_ns, arm.now_ns)
    assert np.abs(samples.steps).max() > 0.03
    entered = np.flatnonzero(np.abs(samples.positions - rest).max(axis=1) > 0.03)[0]
    followed(arm, motion, int(samples.times_ns[entered]))


def test_trajectory_that_is_far_away_is_not_entered(arm, client):
    """With `constraints.<joint>.trajectory` the arm holds instead of jumping farther than that, and the goal fails."""
    rest, sent_ns = arm.positions(), arm.now_ns
    motion = out_and_back(sent_ns - SECOND_NS, rest)
    ended = result(arm, accepted(arm, client, joint_trajectory(SETUP, motion)))
    assert ended.result.error_code == FollowJointTrajectory.Result.PATH_TOLERANCE_VIOLATED
    arm.spin_to(motion.end_ns)
    assert np.abs(arm.samples().between(sent_ns, motion.end_ns).measured - rest).max() < 1e-6


def test_trajectory_before_the_beginning_of_time(arm, publisher):
    """A plan from before the time 0, as after a reset of a simulation, starts on arrival; the controller lives on."""
    rest = arm.positions()
    motion = out_and_back(-PERIOD_NS, rest)
    publisher.publish(joint_trajectory(SETUP, motion))
    arm.listener.spin_until(lambda: not np.allclose(arm.positions(), rest, atol=0.05), label="the motion")
    arm.spin_to(arm.now_ns + 4 * SECOND_NS)
    np.testing.assert_allclose(arm.positions(), rest, atol=0.01)


@pytest.mark.parametrize("since_end, is_accepted", [(SECOND_NS // 2, True), (2 * SECOND_NS, False)])
def test_trajectory_in_the_past(arm, client, since_end, is_accepted):
    """A trajectory in the past is refused; ours end with a second of rest, during which they are accepted."""
    motion = out_and_back(0, arm.positions())
    late = replace(motion, stamp_ns=arm.now_ns - since_end - motion.end_ns)
    assert answer(arm, client, joint_trajectory(SETUP, late)).accepted == is_accepted


def test_trajectory_must_end_at_rest(arm, client):
    """A trajectory whose last velocity is not zero is refused, unless allow_nonzero_velocity_at_trajectory_end."""
    trajectory = joint_trajectory(SETUP, out_and_back(arm.now_ns + SECOND_NS, arm.positions()))
    trajectory.points[-1].velocities[0] = 0.1
    assert not answer(arm, client, trajectory).accepted
    assert "Velocity of last trajectory point" in arm.log


def test_motion_continues_after_a_refused_goal(arm, client):
    """While a goal is refused, the arm moves on by the goal before, which succeeds."""
    motion = out_and_back(arm.now_ns + SECOND_NS // 2, arm.positions())
    handle = accepted(arm, client, joint_trajectory(SETUP, motion))
    arm.spin_to(motion.stamp_ns + SECOND_NS // 4)
    refused = joint_trajectory(SETUP, turned(motion))
    refused.joint_names[0] = "unknown"
    assert not answer(arm, client, refused).accepted
    followed(arm, motion, motion.stamp_ns)
    assert result(arm, handle).status == GoalStatus.STATUS_SUCCEEDED


def test_each_goal_preempts_the_one_before(arm, client):
    """The goal before ends as cancelled or aborted, and the new one succeeds."""
    motion = out_and_back(arm.now_ns + SECOND_NS // 2, arm.positions())
    first = accepted(arm, client, joint_trajectory(SETUP, motion))
    arm.spin_to(motion.stamp_ns + SECOND_NS // 4)
    second = accepted(arm, client, joint_trajectory(SETUP, turned(motion)))
    assert result(arm, first).status in (GoalStatus.STATUS_ABORTED, GoalStatus.STATUS_CANCELED)
    assert result(arm, second).status == GoalStatus.STATUS_SUCCEEDED


def test_cancelled_goal_stops_without_braking(arm, client):
    """A goal that is cancelled stops the joints from one update to the next: a hold is a trajectory that brakes."""
    motion = out_and_back(arm.now_ns + SECOND_NS // 2, arm.positions())
    handle = accepted(arm, client, joint_trajectory(SETUP, motion))
    arm.spin_to(motion.stamp_ns + SECOND_NS // 2)
    cancelling = handle.cancel_goal_async()
    arm.listener.spin_until(cancelling.done, label="the end of the goal")
    cancelled_ns = arm.now_ns
    arm.spin_to(cancelled_ns + SECOND_NS // 2)
    samples = arm.samples().between(motion.stamp_ns, cancelled_ns + SECOND_NS // 2)
    steps = np.abs(samples.steps[:, 0])
    moving = np.flatnonzero(steps > SPEED * 1e-3)
    assert not steps[moving[-1] + 1 :].any() and steps[moving[-3] : moving[-1]].min(initial=1.0) > 0
    elapsed = np.diff(samples.times_ns) * 1e-9
    last_speed = steps[moving[-2]] / elapsed[moving[-2]]
    assert last_speed > SPEED / 2


def test_inactive_controller(arm, client, publisher):
    """An inactive controller stops at once, refuses goals, and ignores its topic although it subscribes to it.

    When it is active again, the arm stays where it is until the next trajectory.
    """
    motion = out_and_back(arm.now_ns + SECOND_NS // 2, arm.positions())
    publisher.publish(joint_trajectory(SETUP, motion))
    arm.spin_to(motion.stamp_ns + SECOND_NS // 4)
    arm.switch([], ["arm_controller"])
    try:
        stopped = arm.positions()
        publisher.publish(joint_trajectory(SETUP, motion))
        assert publisher.get_subscription_count() == 1
        assert not answer(arm, client, joint_trajectory(SETUP, motion)).accepted
    finally:
        arm.switch(["arm_controller"], [])
    arm.spin_to(motion.end_ns)
    np.testing.assert_allclose(arm.positions(), stopped, atol=SPEED * 0.05)


def test_position_controller_obeys_at_once_and_stays(arm):
    """A forward_command_controller jumps to what it is commanded, and stays there."""
    publisher = arm.listener.node.create_publisher(Float64MultiArray, "gripper_controller/commands", 1)
    for position in (0.04, 0.0, 0.02):
        command = Float64MultiArray(data=[position])
        arm.listener.spin_until(
            lambda command=command: publisher.publish(command) or arm.positions(["gripper"])[0] == command.data[0],
            label="the commanded position",
        )
    # Within one update: there is no position in between.
    visited = {round(state.position[list(state.name).index("gripper")], 6) for state in arm.joint_states}
    assert visited == {0.0, 0.02, 0.04}
    arm.listener.node.destroy_publisher(publisher)


def test_gripper_action(arm):
    """The gripper moves to the end of a plan. An inactive controller accepts goals and does nothing."""
    setup = ControllerSetup("gripper_action_controller/gripper_cmd", [0], ["gripper"], stamped=True, max_effort=10.0)
    arm.switch([], ["gripper_controller"])
    arm.spawn("gripper_action_controller")
    gripper = ParallelGripperController(arm.listener.node, setup)
    arm.listener.spin_until(lambda: not gripper.error, label="the controller's action server")

    def command(position: float) -> None:
        arm.listener.spin_until(lambda: gripper.publish(closing(position)) or not gripper.pending, label="acceptance")

    command(0.03)
    arm.listener.spin_until(lambda: arm.positions(["gripper"])[0] == 0.03, label="the commanded position")
    arm.switch([], ["gripper_action_controller"])
    command(0.01)
    assert arm.positions(["gripper"])[0] == 0.03 and not gripper.error
    gripper.close()
    arm.switch(["gripper_controller"], [])


def closing(position: float) -> Plan:
    """Return a plan of the gripper alone that rests at a position."""
    times_ns, positions = PERIOD_NS * np.arange(3, dtype=np.int64), np.full((3, 1), position)
    return Plan(0, PERIOD_NS, 0, times_ns, positions, np.zeros((3, 1)), positions[1])


def test_follower_of_the_simulated_robot_agrees(arm, publisher):
    """`TrajectoryFollower`, by which the simulated robot moves, does what the controller does."""
    rest = arm.positions()
    motion = out_and_back(arm.now_ns + SECOND_NS // 2, rest)
    follower = TrajectoryFollower(rest)
    for number, part in enumerate((motion, turned(motion))):
        message = joint_trajectory(SETUP, part)
        publisher.publish(message)
        waypoints = Waypoints(
            part.stamp_ns,
            np.array([nanoseconds(point.time_from_start) for point in message.points]),
            np.array([point.positions for point in message.points]),
            np.array([point.velocities for point in message.points]),
        )
        follower.replace(waypoints, arm.now_ns)
        end_ns = motion.stamp_ns + SECOND_NS if number == 0 else part.end_ns
        start_ns = arm.now_ns
        arm.spin_to(end_ns)
        samples = arm.samples().between(max(start_ns, motion.stamp_ns), end_ns)
        sampled_ns = motion.stamp_ns + samples.since_start_ns
        expected = np.array([follower.sample(int(time_ns))[0] for time_ns in sampled_ns])
        np.testing.assert_allclose(samples.positions, expected, atol=1e-6)


def test_the_description_is_a_robot_with_these_joints():
    """The URDF has the joints of the arm and its gripper, with limits."""
    from pi0_ttnn_ros.parameters.joint_limits import urdf_limits

    limits = urdf_limits(DESCRIPTION)
    assert list(limits) == [*JOINTS, "gripper"]
    assert all(len(values) == 3 for values in limits.values())
