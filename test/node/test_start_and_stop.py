"""What starts the robot, what stops it, and what it takes to start it again."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition
from pi0_ttnn_ros.msg import PolicyStatus
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from support.fake_robot import FakeRobot, activate, bring_down, bring_up, is_hold


def reset_until_motion(robot: FakeRobot) -> None:
    """Reset as often as it takes: on a busy machine a late chunk holds the robot again."""
    received = len(robot.trajectories)

    def moves() -> bool:
        if robot.status.activity == PolicyStatus.NEEDS_RESET:
            robot.trigger("reset")
        return any(not is_hold(trajectory) for trajectory in robot.trajectories[received:])

    robot.spin_until(moves, "a motion")


def wait_for_activity(robot: FakeRobot, activity: int, reason: str) -> None:
    """Wait for a status with this activity and a reason that contains `reason`."""
    robot.wait_for_status(
        lambda status: status.activity == activity and reason in status.reason, f"activity {activity} for {reason!r}"
    )


@pytest.mark.parametrize("given", ["parameter", "latched"])
def test_no_motion_before_enable(robot, tiny_checkpoint, given):
    """With an instruction there from the start, activation alone moves nothing; each activation needs ~/enable."""
    publisher = robot.node.create_publisher(String, "pi0_policy/instruction", LATCHED)
    if given == "latched":
        publisher.publish(String(data="open the drawer"))
    bring_down(robot)
    activate(robot, tiny_checkpoint, start_enabled=False, instruction="wave" if given == "parameter" else "")
    wait_for_activity(robot, PolicyStatus.DISABLED, "~/enable")
    robot.wait_for_status(lambda status: status.instruction, "the instruction")
    assert robot.receives_nothing_for(statuses=3) and not robot.chunks
    robot.enable(True)
    robot.wait_for_motion()
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    response = robot.listener.call(SetBool, "pi0_policy/enable", SetBool.Request(data=True))
    assert not response.success and "activate the node first" in response.message
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    wait_for_activity(robot, PolicyStatus.DISABLED, "~/enable")
    robot.wait_for_hold()
    assert robot.receives_nothing_for(statuses=2)
    robot.node.destroy_publisher(publisher)


def test_disabled_node_stays_disabled(robot, tiny_checkpoint):
    """An activation does not enable a node that was disabled."""
    activate(robot, tiny_checkpoint)
    robot.enable(False)
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    wait_for_activity(robot, PolicyStatus.DISABLED, "~/enable")


@pytest.mark.parametrize("cause", ["camera", "inference", "policy process"])
def test_manual_restart(robot, inject, tiny_checkpoint, cause):
    """With `restart: manual` the robot does not move again before ~/reset, although the cause is gone."""
    activate(robot, tiny_checkpoint, restart="manual", image_timeout=2.0)
    reset_until_motion(robot)
    if cause == "camera":
        robot.silent.add("base_0_rgb")
    else:
        inject(**({"raises": "DRAM is on fire"} if cause == "inference" else {"exits": 3}))
    named = {"camera": "base_0_rgb", "inference": "DRAM is on fire", "policy process": "exit status 3"}[cause]
    wait_for_activity(robot, PolicyStatus.NEEDS_RESET, named)
    robot.wait_for_hold()
    robot.silent.clear()
    inject()
    robot.wait_for_chunks(2)  # so the cause is gone
    robot.wait_for_status(lambda status: not status.stale_inputs and not status.last_error, "a status without trouble")
    assert robot.receives_nothing_for(statuses=3)
    wait_for_activity(robot, PolicyStatus.NEEDS_RESET, named)
    reset_until_motion(robot)


@pytest.mark.parametrize("durability", [DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL])
def test_emergency_stop(robot, node, capfd, tiny_checkpoint, durability):
    """~/emergency_stop stops the robot, and neither its release nor ~/reset while it is pressed start it again."""
    publisher = robot.node.create_publisher(
        Bool, "pi0_policy/emergency_stop", QoSProfile(depth=10, durability=durability)
    )
    activate(robot, tiny_checkpoint)
    robot.spin_until(publisher.get_subscription_count, label="a subscription")
    publisher.publish(Bool(data=False))
    robot.wait_for_motion()
    publisher.publish(Bool(data=True))
    robot.wait_for_hold()
    wait_for_activity(robot, PolicyStatus.STOPPED, "emergency stop pressed")
    response = robot.listener.call(Trigger, "pi0_policy/reset", Trigger.Request())
    assert not response.success and "pressed" in response.message
    publisher.publish(Bool(data=False))
    wait_for_activity(robot, PolicyStatus.STOPPED, "emergency stop released")
    assert robot.receives_nothing_for(statuses=2)
    robot.trigger("reset")
    robot.wait_for_motion()
    assert "incompatible" not in node.log and "incompatible" not in capfd.readouterr().err
    robot.node.destroy_publisher(publisher)


def test_emergency_stop_latched_before_the_node_starts(start):
    """A latched emergency stop from before the node's start holds the robot."""
    early = FakeRobot("/test_latched_emergency")
    publisher = early.node.create_publisher(Bool, "pi0_policy/emergency_stop", LATCHED)
    publisher.publish(Bool(data=True))
    _, robot = start("/test_latched_emergency")
    robot.spin_until(lambda: robot.statuses, "the node's first status")
    wait_for_activity(robot, PolicyStatus.STOPPED, "emergency stop pressed")
    bring_up(robot)
    assert robot.receives_nothing_for(statuses=3)
    early.close()


def test_stop_outlives_the_node(start, tmp_path):
    """A node that was stopped and killed does not move when it starts again, until ~/reset."""
    folder = tmp_path / "state"
    node, robot = start("/test_kept_stop", state_folder=str(folder))
    bring_up(robot)
    robot.wait_for_motion()
    robot.trigger("stop")
    node.kill()
    node, again = start("/test_kept_stop", state_folder=str(folder))
    bring_up(again)
    wait_for_activity(again, PolicyStatus.STOPPED, "stopped by ~/stop")
    assert again.receives_nothing_for(statuses=3)
    again.trigger("reset")
    again.wait_for_motion()


def test_damaged_state_stops(start, tmp_path):
    """A file of the state that cannot be read stops the node, with the reason."""
    (tmp_path / "state" / "test_damaged_state.pi0_policy.stop").mkdir(parents=True)
    _, robot = start("/test_damaged_state", state_folder=str(tmp_path / "state"))
    bring_up(robot)
    wait_for_activity(robot, PolicyStatus.STOPPED, "cannot be kept over a restart")
    response = robot.listener.call(Trigger, "pi0_policy/reset", Trigger.Request())
    assert not response.success and "test_damaged_state.pi0_policy.stop" in response.message
