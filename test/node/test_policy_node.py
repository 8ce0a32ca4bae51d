"""The policy node as a process over DDS, with a robot that the test plays."""

from __future__ import annotations

import itertools
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS, REST_POSE
from pi0_ttnn_ros.rclpy_utils.qos import LATCHED
from pi0_ttnn_ros.system.scheduling import Priority, has_realtime_priority, use_realtime_priority
from support.fake_robot import (
    JOINTS,
    LIMITS,
    MAX_ACCELERATION,
    MAX_VELOCITY,
    FakeRobot,
    activate,
    assert_within_limits,
    bring_down,
    bring_up,
    error_of,
    good_parameters,
    points_of,
    ros_arguments,
)
from support.former_yaml import BY_NAME, FORMER_YAML
from support.processes import Process
from support.waiting import TIMEOUT

NAMESPACE = "/test_policy_node"
NOTHING = {"input_wait": 5.0}  # where nothing will come


@pytest.fixture(scope="module")
def node(ros, tmp_path_factory):
    node = Process("node.policy_node", tmp_path_factory.mktemp("log") / "policy_node.log", namespace=NAMESPACE)
    yield node
    node.kill()


def test_commands_are_within_limits(robot, tiny_checkpoint):
    """The commands are within the limits, and lead a joint from outside back inside."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(3)
    assert len(robot.trajectories) >= 3
    assert_within_limits(robot.trajectories)
    # The gripper rests at 0.5, above its limit: the first motion starts there and leads back.
    np.testing.assert_allclose(robot.trajectories[0].points[0].positions, robot.positions, atol=0.2)
    robot.spin_until(lambda: robot.trajectories[-1].points[0].positions[6] < 0.45 + 1e-9, label="a gripper inside")


def test_action_chunk_message(robot, tiny_checkpoint):
    """A published chunk has instruction, backend, shape and the stamp of its observation."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(3)
    chunk = robot.chunks[-1]
    assert (chunk.instruction, chunk.backend, chunk.horizon, chunk.time_step) == ("wave", "torch", 50, 0.02)
    assert chunk.joint_names == JOINTS and len(chunk.actions) == 50 * 14
    assert chunk.inference_time > 0
    assert (np.diff([later.sequence for later in robot.chunks]) == 1).all()
    stamps = [(chunk.header.stamp.sec, chunk.header.stamp.nanosec) for chunk in robot.chunks]
    assert stamps == sorted(set(stamps))


def test_status_and_diagnostics(robot, tiny_checkpoint):
    """Status and diagnostics of an active node."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(3)
    robot.spin_until(lambda: robot.status.inference_rate > 0, label="a status with a rate")
    status = robot.status
    assert (status.lifecycle_state, status.backend, status.instruction) == ("active", "torch", "wave")
    assert status.checkpoint == str(tiny_checkpoint) and status.device.startswith("CPU")
    assert 0 < status.latency_p50 <= status.latency_p95 <= status.latency_max
    assert not status.stale_inputs and not error_of(status)
    # Diagnostics come on a topic of their own: the newest message may be older than the status.
    stamp = status.header.stamp
    robot.spin_until(
        lambda: any(message.header.stamp == stamp for message in robot.diagnostics),
        label="the diagnostics of that status",
    )
    inference = next(message for message in robot.diagnostics if message.header.stamp == stamp).status[0]
    assert inference.name == "pi0_policy: inference" and inference.message.startswith("active")


def test_thread_priorities(robot, node, tiny_checkpoint):
    """Node and command loop have real-time priority where permitted; the policy process yields to everything."""
    activate(robot, tiny_checkpoint)
    (policy,) = node.children()
    assert os.sched_getscheduler(policy) == os.SCHED_OTHER and os.getpriority(os.PRIO_PROCESS, policy) >= 5
    with ThreadPoolExecutor() as threads:  # the test's own may not keep it
        permitted = threads.submit(lambda: use_realtime_priority(Priority.NODE) or has_realtime_priority()).result()
    pid = node.process.pid
    priorities = [os.sched_getparam(int(task.name)).sched_priority for task in Path(f"/proc/{pid}/task").iterdir()]
    expected = (Priority.NODE, Priority.COMMANDS) if permitted else (0, 0)
    assert (os.sched_getparam(pid).sched_priority, max(priorities)) == expected


def sliding_chain() -> str:
    """Return a URDF in which each joint pushes all that follows along x: the end is at the sum of the positions."""
    links = [f"link_{number}" for number in range(len(JOINTS) + 1)]
    joints = [
        f'<joint name="{name}" type="prismatic"><parent link="{parent}"/><child link="{child}"/><axis xyz="1 0 0"/>'
        f'<limit lower="-2" upper="0.45" velocity="1.5" effort="1"/></joint>'
        for name, (parent, child) in zip(JOINTS, itertools.pairwise(links), strict=True)
    ]
    return f"<robot name='chain'>{''.join([f'<link name={link!r}/>' for link in links] + joints)}</robot>"


def test_visualization_topics(robot, tiny_checkpoint):
    """Subscribers receive an annotated image, and with a URDF the predicted path."""
    images = robot.listener.subscribe(Image, "pi0_policy/image_annotated")
    arrays = robot.listener.subscribe(MarkerArray, "pi0_policy/predicted_trajectory")
    activate(robot, tiny_checkpoint, introspection=True)
    robot.spin_until(lambda: images and len(robot.chunks) > 2, label="an image")
    assert images[-1].width == len(CAMERAS) * 320 and images[-1].encoding == "rgb8"
    assert not arrays  # there is no URDF, which is said once
    description = robot.node.create_publisher(String, "robot_description", LATCHED)
    description.publish(String(data=sliding_chain()))
    robot.spin_until(lambda: len(arrays) > 2, label="markers")
    (marker,) = arrays[0].markers
    assert (marker.header.frame_id, marker.ns) == ("link_0", "link_14")
    (chunk,) = (chunk for chunk in robot.chunks if chunk.header.stamp == marker.header.stamp)
    expected = np.reshape(chunk.actions, (50, 14)).sum(axis=1)
    np.testing.assert_allclose([point.x for point in marker.points], expected, atol=1e-5)
    robot.node.destroy_publisher(description)


def test_limits_from_urdf(robot, tiny_checkpoint):
    """Limits that the parameters leave out come from the URDF."""
    description = robot.node.create_publisher(String, "robot_description", LATCHED)
    description.publish(String(data=sliding_chain()))
    limits = {name: {"max_acceleration": MAX_ACCELERATION} for name in JOINTS}
    activate(robot, tiny_checkpoint, joint_limits=limits)

    def fastest():
        return max((np.abs(points_of(trajectory)[2]).max() for trajectory in robot.trajectories), default=0.0)

    robot.spin_until(lambda: fastest() > 0.9 * MAX_VELOCITY, "a motion at the limit")
    robot.spin_until(lambda: len(robot.trajectories) > 100, "commands")
    assert_within_limits(robot.trajectories)  # the URDF's are those of the other tests
    robot.node.destroy_publisher(description)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"max_velocity": 1.6}, "max_velocity is 1.6, wider than the 1.5"),
        ({"min_position": -2.1}, "min_position is -2.1, wider than the -2"),
        ({"max_position": 0.5}, "max_position is 0.5, wider than the 0.45"),
    ],
)
def test_limits_wider_than_those_of_the_urdf(robot, tiny_checkpoint, changes, told):
    """Configure refuses limits that are wider than the URDF's, unless `allow_wider_limits` says so."""
    bring_down(robot)
    description = robot.node.create_publisher(String, "robot_description", LATCHED)
    description.publish(String(data=sliding_chain()))
    parameters = good_parameters(tiny_checkpoint) | limits(JOINTS[5], **changes)
    robot.set_parameters(**parameters)
    assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
    robot.wait_for_status(lambda status: f"joint_limits.{JOINTS[5]}.{told}" in status.last_error, "the error")
    assert "allow_wider_limits" in robot.status.last_error
    robot.set_parameters(allow_wider_limits=True)
    assert robot.change_state(Transition.TRANSITION_CONFIGURE)
    robot.change_state(Transition.TRANSITION_CLEANUP)
    robot.set_parameters(allow_wider_limits=False)
    robot.node.destroy_publisher(description)


def test_configure_without_robot_description(robot, tiny_checkpoint):
    """Configure names the topic on which no URDF arrived."""
    bring_down(robot)
    limits = {name: dict(LIMITS) for name in JOINTS}
    del limits[JOINTS[3]]["max_position"]
    robot.set_parameters(**good_parameters(tiny_checkpoint) | {"joint_limits": limits, "input_wait": 1.0})
    assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
    wanted = (
        f"parameters ['joint_limits.{JOINTS[3]}.max_position'] are not set, and nothing arrived on "
        f"{NAMESPACE}/robot_description"
    )
    robot.spin_until(lambda: wanted in robot.status.last_error, label="the error")


def test_deactivate_ends_with_a_hold(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    robot.wait_for_motion()
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    robot.wait_for_hold()
    assert_within_limits(robot.trajectories)
    assert robot.receives_nothing_for(statuses=2)


def test_stale_inputs(robot, tiny_checkpoint):
    """Stale inputs are named, and the robot holds until they return."""
    activate(robot, tiny_checkpoint, image_timeout=1.0, joint_state_timeout=1.0)
    robot.wait_for_motion()
    robot.alive = False
    robot.wait_for_hold()
    everything = sorted(["joint_states", *CAMERAS])
    robot.spin_until(lambda: robot.status.stale_inputs == everything, label="a status that names them")
    assert robot.status.lifecycle_state == "active"
    robot.alive = True
    robot.wait_for_chunks(2)
    robot.spin_until(lambda: not robot.status.stale_inputs, label="a status without them")


def test_joint_states_with_nan(robot, tiny_checkpoint):
    """Joint states with NaN are refused, and the robot holds until they are finite."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_motion()
    robot.positions[3] = float("nan")
    robot.spin_until(lambda: "not finite" in robot.status.last_error, label="an error")
    robot.wait_for_hold()
    robot.positions[3] = 0.0
    robot.wait_for_chunks(1)
    robot.spin_until(lambda: not robot.status.last_error, label="a status without error")


def test_permuted_and_extra_joints(robot, tiny_checkpoint):
    """Joint states in another order and with more joints are matched by name."""
    robot.joint_names = ["extra", *reversed(JOINTS)]
    robot.positions = [9.0, *reversed(robot.positions)]
    activate(robot, tiny_checkpoint)
    robot.spin_until(lambda: robot.trajectories, label="a command")
    np.testing.assert_allclose(robot.trajectories[0].points[0].positions, [*REST_POSE, *REST_POSE], atol=0.2)


@pytest.mark.parametrize("durability", [DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL])
def test_instruction_topic(robot, node, tiny_checkpoint, durability, capfd):
    """An instruction reaches the policy, latched or not.

    Regression: a publisher without latching caused a warning of incompatible QoS.
    """
    bring_down(robot)
    publisher = robot.node.create_publisher(
        String, "pi0_policy/instruction", QoSProfile(depth=1, durability=durability)
    )
    latched = durability == DurabilityPolicy.TRANSIENT_LOCAL
    if latched:  # before the node listens
        publisher.publish(String(data="open the drawer"))
    activate(robot, tiny_checkpoint, instruction="")
    if not latched:
        robot.spin_until(publisher.get_subscription_count, label="a subscription")
        publisher.publish(String(data="open the drawer"))
    robot.wait_for_chunks(1)
    assert robot.chunks[-1].instruction == "open the drawer"
    # Who publishes without latching, as the robot does beside it, is not told of an incompatibility that is none.
    assert "incompatible" not in node.log and (latched or "incompatible" not in capfd.readouterr().err)
    robot.node.destroy_publisher(publisher)


def test_no_motion_without_instruction(robot, tiny_checkpoint):
    """Without an instruction the robot does not move, and the status says why."""
    bring_down(robot)
    activate(robot, tiny_checkpoint, instruction="")
    statuses = len(robot.statuses)
    robot.spin_until(lambda: len(robot.statuses) >= statuses + 3, label="three statuses")
    assert robot.status.stale_inputs == ["instruction"]
    assert not robot.trajectories


def test_compressed_images(robot, tiny_checkpoint):
    """A topic of compressed images is accepted."""
    activate(robot, tiny_checkpoint, base_0_rgb={"topic": "base_0_rgb/image/compressed"})
    robot.wait_for_chunks(1)


def test_one_of_three_cameras(robot, tiny_checkpoint):
    """One of three cameras is enough."""
    activate(robot, tiny_checkpoint, cameras=["base_0_rgb"])
    robot.wait_for_chunks(1)


def limits(joint: str, **changes: float) -> dict:
    """Return the good limits, and those of `joint` with changes."""
    return {"joint_limits": {name: LIMITS for name in JOINTS} | {joint: LIMITS | changes}}


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"checkpoint": ""}, "checkpoint is not set"),
        ({"checkpoint": "/nowhere"}, "/nowhere is not a directory"),
        ({"backend": "abacus"}, "unknown backend 'abacus'"),
        ({"joint_names": [*JOINTS[:13], "tail"], **limits("tail")}, "joint states lack ['tail']"),
        ({"joint_names": [*JOINTS[:13], JOINTS[0]]}, f"joint_names names ['{JOINTS[0]}'] more than once"),
        (limits(JOINTS[0], min_position=0.5), "min_position is not below joint_limits.left_0.max_position"),
        (limits(JOINTS[0], max_velocity=0.0), "joint_limits.left_0.max_velocity is 0, but must be above 0"),
        ({"cameras": ["head", "left_wrist_0_rgb"], "head": {"topic": "base_0_rgb/image"}}, "cameras names ['head']"),
        ({name: {"topic": "a"} for name in CAMERAS[:2]}, "'left_wrist_0_rgb'] have the same topic 'a'"),
        ({CAMERAS[1]: {"topic": ""}}, f"parameter {CAMERAS[1]}.topic is not set"),
        ({"joint_trajectory_controller": {"joints": JOINTS[:12]}}, f"joints {JOINTS[12:]} have no controller"),
        (NOTHING | {"cameras": ["base_0_rgb"], "base_0_rgb": {"topic": "nothing"}}, f"publishes {NAMESPACE}/nothing"),
        (NOTHING | {"cameras": ["base_0_rgb"], "base_0_rgb": {"topic": "text"}}, "carries ['std_msgs/msg/String'], ex"),
        (NOTHING | {"joint_state_topic": "nothing"}, f"joint states: nobody publishes {NAMESPACE}/nothing"),
    ],
)
def test_configure_refuses_invalid_parameters(robot, tiny_checkpoint, changes, culprit):
    """Configure refuses, and the status names the reason; a list of names that cannot be is not even set."""
    bring_down(robot)
    parameters = good_parameters(tiny_checkpoint) | {"joint_state_topic": "joint_states"} | changes
    reasons = " ".join(result.reason for result in robot.set_parameters(**parameters))
    assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
    robot.spin_until(
        lambda: culprit in robot.status.last_error or culprit in reasons, label=f"{culprit}: {robot.status}"
    )
    assert robot.status.lifecycle_state == "unconfigured"
    robot.set_parameters(joint_state_topic="joint_states")


def test_configure_refuses_joint_count(robot, tiny_checkpoint):
    """Configure refuses a number of joints that differs from the checkpoint's."""
    bring_down(robot)
    robot.set_parameters(**good_parameters(tiny_checkpoint) | {"joint_names": JOINTS[:13]})
    assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
    robot.spin_until(lambda: "state has 14 values" in robot.status.last_error, label="the error")


def test_configure_refuses_image_encoding(robot, tiny_checkpoint):
    """Configure refuses an image encoding that cannot be decoded."""
    bring_down(robot)
    robot.encoding = "16UC1"
    robot.set_parameters(**good_parameters(tiny_checkpoint))
    assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
    robot.spin_until(lambda: "'16UC1'" in robot.status.last_error, label="the error")


def test_parameters_are_fixed_while_configured(robot, tiny_checkpoint):
    """Parameters are refused while the node is configured, and values out of range always."""
    activate(robot, tiny_checkpoint)
    (result,) = robot.set_parameters(time_step=0.05)
    assert not result.successful and "clean up the node first" in result.reason
    (result,) = robot.set_parameters(max_jump_tme=1.0)
    assert not result.successful and "did you mean max_jump_time?" in result.reason
    (result,) = robot.set_parameters(seed=-1)
    assert not result.successful


def test_invalid_transitions_are_refused(robot, tiny_checkpoint):
    """A transition that the state does not allow is refused and changes nothing."""
    activate(robot, tiny_checkpoint)
    for transition in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP):
        assert not robot.change_state(transition)
    robot.wait_for_chunks(1)


def test_reconfigure(robot, tiny_checkpoint):
    """The policy can be cleaned up and configured again."""
    for _ in range(2):
        activate(robot, tiny_checkpoint)
        robot.wait_for_chunks(1)
        bring_down(robot)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_with_a_hold(ros, tiny_checkpoint, tmp_path, number):
    """SIGINT and SIGTERM end the node with exit status 0, after a hold."""
    arguments = ros_arguments(good_parameters(tiny_checkpoint))
    node = Process("node.policy_node", tmp_path / "log", *arguments, namespace=NAMESPACE + "_signal")
    robot = FakeRobot(NAMESPACE + "_signal")
    try:
        bring_up(robot)
        robot.wait_for_motion()
        assert node.stop(number) == 0
        robot.wait_for_hold()
        assert "Traceback" not in node.log
    finally:
        node.kill()
        robot.close()


def test_parameter_of_wrong_type(tmp_path):
    """A parameter of the wrong type ends the node with one line that names it."""
    node = Process("node.policy_node", tmp_path / "log", "-p", "time_step:=fast", namespace=NAMESPACE + "_type")
    assert node.process.wait(TIMEOUT) == 1
    assert "time_step" in node.log and "Traceback" not in node.log


def test_former_yaml_is_refused(tmp_path):
    """Configure refuses a former YAML; status and log show what to write instead."""
    file = tmp_path / "robot.yaml"
    file.write_text(FORMER_YAML)
    namespace = NAMESPACE + "_former"
    node = Process("node.policy_node", tmp_path / "log", "--params-file", str(file), namespace=namespace)
    robot = FakeRobot(namespace)
    try:
        robot.spin_until(lambda: robot.statuses, "the node's first status")
        assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
        robot.spin_until(lambda: robot.status.last_error.endswith(BY_NAME), "the status with the YAML")
        assert BY_NAME in node.log
    finally:
        node.kill()
        robot.close()
