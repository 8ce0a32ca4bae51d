"""How each type of controller is told a motion, over DDS."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from support.reasons import OVERLAY

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.action import ActionClient, ActionServer, GoalResponse
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_ros.aloha.trajectory_follower import TrajectoryFollower, Waypoints
from pi0_ttnn_ros.controllers.action import RETRY_S
from pi0_ttnn_ros.controllers.base import REST_NS, ControllerError
from pi0_ttnn_ros.controllers.factory import make_controllers
from pi0_ttnn_ros.execution.chunk_executor import FROZEN_NS, ChunkExecutor, Execution, Plan
from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.observation.stamps import nanoseconds
from pi0_ttnn_ros.parameters.parameters import ControllerParameters
from support.fake_controller import TrajectoryServer
from support.fake_robot import points_of
from support.processes import Listener

JOINTS = ["shoulder", "elbow", "finger"]
STAMP = 5 * 10**9
PERIOD = 20_000_000
HOLD_TICK = 110
TIMES = PERIOD * np.arange(3, dtype=np.int64)
MOTION = Plan(
    STAMP,
    STAMP + PERIOD,
    STAMP,
    TIMES,
    np.array([[0.0, 1.0, 0.01], [0.1, 1.1, 0.02], [0.2, 1.2, 0.03]]),
    np.array([[5.0, 5.0, 0.5], [5.0, 5.0, 0.5], [0.0, 0.0, 0.0]]),
    np.array([0.1, 1.1, 0.02]),
)


@pytest.fixture
def listener(ros):
    listener = Listener("listener", "/test_controllers")
    yield listener
    listener.close()


@pytest.fixture
def silent(ros):
    """A listener that does not spin by itself: its action servers are there and do not answer."""
    silent = Listener("silent", "/test_controllers")
    yield silent
    silent.close()


@pytest.fixture
def node(listener):
    node = Node("sender", namespace="/test_controllers")
    yield node
    node.destroy_node()


def rest(position):
    """Return a plan in which all joints stay at a position."""
    now_ns = STAMP + PERIOD
    positions = np.full((3, 3), position)
    return Plan(now_ns, now_ns + PERIOD, now_ns, TIMES, positions, np.zeros((3, 3)), positions[1])


def controllers(node, types, topics, of_joint, stamped=True):
    """Return controllers, which have those joints that have their index in `of_joint`."""
    described = {
        topic: ControllerParameters(kind, topic, [joint for joint, of in zip(JOINTS, of_joint, strict=True) if of == i])
        for i, (kind, topic) in enumerate(zip(types, topics, strict=True))
    }
    return make_controllers(node, described, JOINTS, stamped, max_effort=7.0)


@pytest.mark.parametrize("stamped", [True, False])
def test_trajectory_of_one_controller(listener, node, stamped):
    """A JointTrajectory has the joints of its controller, stamps as configured, and a rest at its end.

    Regression: a trajectory that arrived after its last point was refused by the controller.
    """
    received = listener.subscribe(JointTrajectory, "arm")
    (controller,) = controllers(node, ["joint_trajectory"], ["arm"], [0, 0, 0], stamped)
    listener.spin_until(lambda: node.count_subscribers("/test_controllers/arm"), label="a subscription")
    controller.publish(MOTION)
    listener.spin_until(lambda: received, label="the trajectory")
    message = received[0]
    assert message.joint_names == JOINTS
    assert nanoseconds(message.header.stamp) == (STAMP if stamped else 0)
    # On arrival "now" is not a point that one can still go to. The rest is long enough for what arrives late.
    first = 0 if stamped else 2
    times = [*TIMES[first:].tolist(), TIMES[-1] + REST_NS]
    assert [nanoseconds(point.time_from_start) for point in message.points] == times
    for point in message.points[-2:]:
        assert list(point.positions) == [0.2, 1.2, 0.03] and not any(point.velocities)


@pytest.mark.parametrize("now_ns", [0, 1_000_000, 9_000_000, 12_000_000, 25_000_000])
def test_simulation_is_reset(listener, node, now_ns):
    """Where a trajectory would be stamped before the beginning of simulated time, it starts on arrival.

    Regression: its stamp was below zero, which ends a joint_trajectory_controller.
    """
    limits = Limits(tuple(JOINTS), *(np.full(3, value) for value in (-1.0, 1.0, 1.0, 5.0)))
    executor = ChunkExecutor(limits, Execution("asynchronous", 0.02, 0.02, 2.0, 10.0))
    executor.add(ActionChunk(np.full((50, 3), 0.5, np.float32), "", STAMP, 0.0), np.zeros(3), STAMP)
    executor.plan(STAMP)
    executor.plan(STAMP + 150_000_000)
    plan = executor.plan(now_ns)
    (controller,) = controllers(node, ["joint_trajectory"], ["arm"], [0, 0, 0])
    received = listener.subscribe(JointTrajectory, "arm")
    listener.spin_until(lambda: node.count_subscribers("/test_controllers/arm"), label="a subscription")
    controller.publish(plan)
    listener.spin_until(lambda: received, label="the trajectory")
    times = [nanoseconds(point.time_from_start) for point in received[0].points]
    stamp_ns = nanoseconds(received[0].header.stamp)
    assert stamp_ns == max(0, plan.stamp_ns) <= now_ns and not plan.at_rest
    assert times[0] == 0 if stamp_ns else times[0] >= 20_000_000
    start_ns = stamp_ns or now_ns
    for time_ns, point in zip(times[:-1], received[0].points, strict=False):
        planned = plan.positions[np.searchsorted(plan.times_ns, start_ns + time_ns - plan.stamp_ns)]
        np.testing.assert_allclose(point.positions, planned, atol=1e-9)


def test_joints_are_split_between_controllers(listener, node):
    arm, finger = listener.subscribe(JointTrajectory, "arm"), listener.subscribe(Float64MultiArray, "finger")
    both = controllers(node, ["position", "joint_trajectory"], ["finger", "arm"], [1, 1, 0])
    for topic in ("finger", "arm"):
        listener.spin_until(lambda topic=topic: node.count_subscribers(f"/test_controllers/{topic}"), label=topic)
    for controller in both:
        controller.publish(MOTION)
    listener.spin_until(lambda: arm and finger, label="both commands")
    assert arm[0].joint_names == ["shoulder", "elbow"] and list(arm[0].points[1].positions) == [0.1, 1.1]
    assert list(finger[0].data) == [0.02]


def test_action_goals_reproduce_all_plans(listener, monkeypatch):
    """Each goal arrives as late as it may, and what the controller does is what was planned last, at every moment.

    A hold may be late as well, but until it arrives the controller is ahead of it.
    """
    pytest.importorskip("control_msgs.action", reason=OVERLAY)
    server = TrajectoryServer(listener.node, "arm")
    (controller,) = controllers(listener.node, ["follow_joint_trajectory"], ["arm"], [0, 0, 0])
    listener.spin_until(lambda: not controller.error, label="the server")
    limits = Limits(tuple(JOINTS), *(np.full(3, value) for value in (-1.0, 1.0, 1.0, 5.0)))
    executor = ChunkExecutor(limits, Execution("asynchronous", 0.02, 0.02, 2.0, 10.0))
    random = np.random.default_rng(0)
    sent, plans = [], []
    send = ActionClient.send_goal_async
    monkeypatch.setattr(ActionClient, "send_goal_async", lambda client, goal: sent.append(goal) or send(client, goal))
    for tick in range(150):
        now_ns = STAMP + tick * PERIOD
        if tick % 25 == 0 and tick < 100:
            actions = np.cumsum(random.uniform(-0.02, 0.02, (50, 3)), axis=0).astype(np.float32)
            executor.add(ActionChunk(actions, "", now_ns - 5 * PERIOD, 0.1), np.zeros(3), now_ns)
        if tick == HOLD_TICK:
            executor.hold()
        plans.append(executor.plan(now_ns))
        controller.publish(plans[-1])
        listener.spin_until(lambda: len(server.goals) == len(sent) == server.ended + 1, label="the goal at the server")
    end = plans[-1].positions[-1]
    listener.spin_until(
        lambda: server.goals and np.allclose(server.goals[-1].points[-1].positions, end), label="the end"
    )
    assert len(server.goals) < len(plans) / 3 and not controller.error
    controller.close()
    server.close()

    hold_ns = STAMP + HOLD_TICK * PERIOD
    arriving = {}
    for goal in server.goals:
        stamp_ns = nanoseconds(goal.header.stamp)
        arrival_ns = stamp_ns + FROZEN_NS if stamp_ns > hold_ns else min(stamp_ns + FROZEN_NS, hold_ns)
        arriving[arrival_ns] = Waypoints(stamp_ns, *points_of(goal))
    follower = TrajectoryFollower(plans[0].positions[0])
    moved = 0.0
    for plan in plans:
        if plan.stamp_ns in arriving:
            follower.replace(arriving[plan.stamp_ns], plan.stamp_ns)
        if plan.stamp_ns >= plans[0].stamp_ns + FROZEN_NS:
            np.testing.assert_allclose(follower.sample(plan.stamp_ns)[0], plan.positions[0], atol=1e-6)
        moved = max(moved, np.abs(plan.positions[0] - end).max())
    assert moved > 0.05


@pytest.mark.parametrize("failure", ["refused", "aborted"])
def test_failed_goal_is_reported_and_hold_is_sent(listener, failure):
    """A goal that fails is an error for a while; the hold is sent at once.

    Regression: nothing was sent for 1.5 s, not even the hold of ~/stop.
    """
    pytest.importorskip("control_msgs.action", reason=OVERLAY)
    (controller,) = controllers(listener.node, ["follow_joint_trajectory"], ["arm"], [0, 0, 0])
    assert "there is no action server" in controller.error
    server = TrajectoryServer(listener.node, "arm")
    listener.spin_until(lambda: not controller.error, label="the server")
    server.failure = failure
    controller.publish(MOTION)
    listener.spin_until(lambda: controller.error, label="an error")
    assert {"refused": "refused the goal", "aborted": "code -4 'played'"}[failure] in controller.error
    server.failure = ""
    controller.publish(rest(0.1))
    listener.spin_until(lambda: len(server.received) == 2, label="the hold")
    assert list(server.goals[-1].points[-1].positions) == [0.1, 0.1, 0.1]
    listener.spin_until(lambda: not controller.error, label="the end of the error")
    controller.publish(rest(0.1))
    controller.publish(MOTION)
    listener.spin_until(lambda: len(server.received) == 3, label="the next goal")
    assert list(server.goals[-1].points[-1].positions) == [0.2, 1.2, 0.03]
    controller.close()
    server.close()


def test_refused_goal_is_sent_again_after_a_while(listener):
    """A plan that was refused is sent again, but not at once: the controller logs each refusal."""
    pytest.importorskip("control_msgs.action", reason=OVERLAY)
    (controller,) = controllers(listener.node, ["follow_joint_trajectory"], ["arm"], [0, 0, 0])
    server = TrajectoryServer(listener.node, "arm")
    listener.spin_until(lambda: not controller.error, label="the server")
    server.failure = "refused"
    started = time.monotonic()
    listener.spin_until(lambda: controller.publish(MOTION) or len(server.received) >= 4, label="four goals")
    assert time.monotonic() - started >= 3 * RETRY_S
    controller.close()
    server.close()


def test_unanswered_goal_is_an_error(listener, silent):
    """An action server that does not answer is an error that names the action, until it answers again."""
    pytest.importorskip("control_msgs.action", reason=OVERLAY)
    server = TrajectoryServer(silent.node, "arm")
    (controller,) = controllers(listener.node, ["follow_joint_trajectory"], ["arm"], [0, 0, 0])
    listener.spin_until(lambda: not controller.error, label="the server")
    controller.publish(MOTION)
    listener.spin_until(lambda: controller.error, label="an error")
    assert "arm" in controller.error and "has not answered" in controller.error
    controller.publish(rest(0.1))
    silent.spin_until(lambda: len(server.received) == 2, label="the motion and the hold, which was sent all the same")
    listener.spin_until(lambda: not controller.error, label="the end of the error")
    controller.close()
    server.close()


@pytest.mark.parametrize("kind", ["GripperCommand", "ParallelGripperCommand"])
def test_gripper_action_receives_end_of_plan(listener, kind):
    """A gripper action receives the position in which the plan ends, at a limited rate."""
    control_msgs = pytest.importorskip("control_msgs.action", reason=OVERLAY)
    action = getattr(control_msgs, kind)
    goals = []

    def execute(handle):
        command = handle.request.command
        if kind == "GripperCommand":
            goals.append((command.position, command.max_effort))
        else:
            goals.append((command.position[0], command.effort[0]))
            assert command.name == ["finger"]
        handle.succeed()
        return action.Result()

    server = ActionServer(listener.node, action, "gripper", execute)
    controller_type = {"GripperCommand": "gripper_command"}.get(kind, "parallel_gripper_command")
    types = ["joint_trajectory", controller_type]
    _, gripper = controllers(listener.node, types, ["arm", "gripper"], [0, 0, 1])

    def tell(trajectory, count):
        listener.spin_until(lambda: gripper.publish(trajectory) or len(goals) >= count, label="a goal")
        listener.spin_until(lambda: not gripper.pending, label="its acceptance")

    tell(MOTION, 1)
    tell(rest(0.04), 2)  # so soon after the last one only because it is the end
    gripper.publish(rest(0.04))
    assert goals == [(0.03, 7.0), (0.04, 7.0)] and not gripper.error
    gripper.close()
    server.destroy()


@pytest.mark.parametrize("loss", ["refused", "lost"])
def test_gripper_goal_is_sent_until_accepted(listener, silent, loss):
    """A gripper's goal that is refused or lost is an error, and sent again until it is accepted.

    Regression: the last goal was sent once, and a gripper that refused it stayed as it was.
    """
    control_msgs = pytest.importorskip("control_msgs.action", reason=OVERLAY)
    action, refusing, goals = control_msgs.GripperCommand, True, []

    def on_goal(goal):
        if refusing:
            return GoalResponse.REJECT
        goals.append(goal.command.position)
        return GoalResponse.ACCEPT

    def execute(handle):
        handle.succeed()
        return action.Result()

    def serve(node):
        return ActionServer(node, action, "gripper", execute, goal_callback=on_goal)

    first = serve(listener.node if loss == "refused" else silent.node)
    _, gripper = controllers(listener.node, ["joint_trajectory", "gripper_command"], ["arm", "gripper"], [0, 0, 1])
    listener.spin_until(lambda: not gripper.error, label="the server")
    gripper.publish(rest(0.04))
    listener.spin_until(lambda: gripper.error, label="an error")
    told = {"refused": "refused the goal", "lost": "has not answered"}[loss]
    assert "gripper" in gripper.error and told in gripper.error and gripper.pending
    refusing = False
    if loss == "lost":
        first.destroy()
        listener.spin_until(lambda: "there is no action server" in gripper.error, label="the end of the server")
    second = serve(listener.node) if loss == "lost" else first
    listener.spin_until(lambda: gripper.publish(rest(0.04)) or not gripper.pending, label="an accepted goal")
    assert goals == [0.04]
    listener.spin_until(lambda: not gripper.error, label="the end of the error")
    gripper.close()
    second.destroy()


@pytest.mark.parametrize("kind", ["gripper_command", "parallel_gripper_command", "follow_joint_trajectory"])
def test_action_without_control_msgs(node, monkeypatch, kind):
    """Without control_msgs an action controller is refused; the error names the package to install."""
    monkeypatch.setitem(sys.modules, "control_msgs.action", None)
    with pytest.raises(ControllerError, match="install ros-"):
        controllers(node, ["joint_trajectory", kind], ["arm", "gripper"], [0, 0, 1])
