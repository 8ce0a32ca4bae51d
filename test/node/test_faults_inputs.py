"""What the robot receives when sensors, operators or their messages fail."""

from __future__ import annotations

import re
import signal
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from pi0_ttnn_ros.msg import PolicyStatus
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Empty, String

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS, REST_POSE
from pi0_ttnn_ros.observation.stamps import nanoseconds
from support.fake_robot import JOINTS, activate, assert_holds_and_resumes, error_of
from support.images import black_png
from support.memory import peak_memory


def test_camera_stops_and_returns(robot, tiny_checkpoint):
    """A camera stops and returns."""
    activate(robot, tiny_checkpoint, image_timeout=1.5, joint_state_timeout=1.5)
    assert_holds_and_resumes(
        robot,
        lambda: robot.silent.add("left_wrist_0_rgb"),
        robot.silent.clear,
        lambda status: status.stale_inputs == ["left_wrist_0_rgb"],
    )


def test_status_tells_changes_at_once(robot, tiny_checkpoint):
    """A status with the reason comes when the robot starts to hold, not with the next of those once a second."""
    activate(robot, tiny_checkpoint, image_timeout=1.5)
    for camera in ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"):
        robot.wait_for_status(lambda status: status.activity == PolicyStatus.MOVING, "a motion")
        robot.silent.add(camera)
        robot.wait_for_status(lambda status: status.activity == PolicyStatus.HOLDING, "a hold")
        assert robot.status.reason.startswith(f"{camera}: ") and "timeout is 1.5 s" in robot.status.reason
        robot.silent.clear()
    assert all(status.reason for status in robot.statuses)
    stamps_ns = np.array([nanoseconds(status.header.stamp) for status in robot.statuses])
    assert np.count_nonzero(np.diff(stamps_ns) < 0.7e9) >= 3


def test_arm_is_moved_while_a_camera_is_stale(robot, tiny_checkpoint):
    """While the robot holds others move the arm: the motion goes on from there.

    Regression: it began where the arm had come to rest, and the arm jumped back.
    """
    activate(robot, tiny_checkpoint, image_timeout=1.5)
    robot.wait_for_motion()
    robot.silent.add("left_wrist_0_rgb")
    robot.wait_for_status(lambda status: status.stale_inputs == ["left_wrist_0_rgb"], "a status that tells")
    robot.wait_for_hold()
    robot.positions[0] -= 0.4
    assert robot.receives_nothing_for(statuses=2)
    received = len(robot.trajectories)
    robot.silent.clear()
    robot.spin_until(lambda: len(robot.trajectories) > received, label="a motion")
    assert robot.trajectories[received].points[0].positions[0] == pytest.approx(robot.positions[0], abs=1e-6)


def test_joint_states_stop_and_return(robot, tiny_checkpoint):
    """The joint states stop and return."""
    activate(robot, tiny_checkpoint, image_timeout=1.5, joint_state_timeout=1.5)
    assert_holds_and_resumes(
        robot,
        lambda: robot.silent.add("joint_states"),
        robot.silent.clear,
        lambda status: status.stale_inputs == ["joint_states"],
    )


def test_camera_repeats_an_image(robot, tiny_checkpoint):
    """A camera that repeats one image, with its stamp, is stale."""
    activate(robot, tiny_checkpoint, image_timeout=1.5)
    stamp_ns = robot.node.get_clock().now().to_msg()
    assert_holds_and_resumes(
        robot,
        lambda: robot.frozen.update(base_0_rgb=stamp_ns),
        robot.frozen.clear,
        lambda status: status.stale_inputs == ["base_0_rgb"],
    )


def test_slow_camera_sets_the_pace(robot, tiny_checkpoint):
    """Five images a second: with a tolerance of 30 ms there is an observation when one comes, and only then."""
    robot.slow["right_wrist_0_rgb"] = 4
    activate(robot, tiny_checkpoint, sync_tolerance=0.03)
    activated_ns = robot.node.get_clock().now().nanoseconds

    # On a busy machine a chunk of the time before, of another tolerance, may arrive late.
    def stamps_ns() -> list[int]:
        return [stamp for chunk in robot.chunks if (stamp := nanoseconds(chunk.header.stamp)) >= activated_ns]

    robot.spin_until(lambda: len(stamps_ns()) >= 5, "chunks")
    images = np.array(robot.image_stamps["right_wrist_0_rgb"])
    for stamp_ns in stamps_ns():
        assert np.abs(images - stamp_ns).min() <= 0.03e9


def test_unsynchronized_cameras(robot, tiny_checkpoint):
    """Cameras whose stamps are too far apart are reported as `synchronisation`."""
    activate(robot, tiny_checkpoint, sync_tolerance=0.2, image_timeout=2.0)
    robot.wait_for_motion()

    # Each image has the stamp of 0.6 s before: fresh enough alone, but of another moment than the others.
    def out_of_step():
        robot.frozen["base_0_rgb"] = (robot.node.get_clock().now() - rclpy.duration.Duration(seconds=0.6)).to_msg()
        return "synchronisation" in robot.status.stale_inputs

    robot.spin_until(out_of_step, "a status that names it")
    assert robot.status.sync_skew > 0.2
    robot.wait_for_hold()
    robot.frozen.clear()
    robot.wait_for_chunks(1)


def test_images_of_ten_megabytes(robot, tiny_checkpoint):
    robot.sizes["base_0_rgb"] = (1800, 1920)
    robot.slow["base_0_rgb"] = 10
    activate(robot, tiny_checkpoint, image_timeout=10.0, sync_tolerance=10.0)
    robot.wait_for_chunks(2)


def test_image_that_is_huge_once_decoded(robot, node, tiny_checkpoint):
    """A PNG of some kilobytes that is a gigabyte once decoded is refused, and takes no memory of node or policy."""
    activate(robot, tiny_checkpoint, image_timeout=10.0, base_0_rgb={"topic": "base_0_rgb/image/compressed"})
    processes = node.process.pid, node.policy_process
    before = [peak_memory(process) for process in processes]
    file, robot.compressed = robot.compressed, black_png(17000, 17000)
    robot.wait_for_status(lambda status: "'base_0_rgb': image of 17000x17000" in status.last_error, "a refusal")
    assert np.all(np.subtract([peak_memory(process) for process in processes], before) < 50.0)
    assert node.policy_process == processes[1]  # which was not restarted
    robot.compressed = file
    robot.wait_for_chunks(2)


@pytest.mark.parametrize("size", [0, 1, 4, 11, 12, 200])
@pytest.mark.parametrize("topic", ["base_0_rgb/image", "joint_states", "pi0_policy/instruction"])
def test_damaged_messages(robot, tiny_checkpoint, topic, size):
    """Messages that are too short, or full of bytes without meaning, do not end the node.

    Regression: an image of four bytes did.
    """
    types = {"base_0_rgb/image": Image, "joint_states": JointState, "pi0_policy/instruction": String}
    publisher = robot.node.create_publisher(types[topic], topic, 10)
    activate(robot, tiny_checkpoint)
    robot.wait_for_motion()
    robot.spin_until(publisher.get_subscription_count, "a subscription")
    for _ in range(5):
        publisher.publish((b"\x00\x01\x00\x00" + bytes(range(256)))[:size])
        robot.wait_for_chunks(1)
    robot.wait_for_motion()
    robot.node.destroy_publisher(publisher)


def test_joint_states_lack_a_joint(robot, tiny_checkpoint):
    activate(robot, tiny_checkpoint)
    assert_holds_and_resumes(
        robot,
        lambda: (robot.joint_names.pop(), robot.positions.pop()),
        lambda: (robot.joint_names.append(JOINTS[-1]), robot.positions.append(REST_POSE[-1])),
        lambda status: f"lack ['{JOINTS[-1]}']" in status.last_error,
    )


def follow(robot) -> list[float]:
    """Let the robot do what it is commanded, at once; return the factor on that, which is 0 for a blocked robot."""
    factor = [1.0]

    def move():
        if robot.trajectories and factor[0]:
            robot.positions = list(robot.trajectories[-1].points[0].positions)

    robot.node.create_timer(0.02, move)
    return factor


def test_robot_does_not_follow(robot, node, tiny_checkpoint):
    """A robot that is blocked holds, status and log name the joint; it goes on when it follows again."""
    follows = follow(robot)
    activate(robot, tiny_checkpoint, max_tracking_time=0.4)
    robot.wait_for_motion()
    follows[0] = 0.0
    robot.wait_for_status(
        lambda status: status.activity == PolicyStatus.HOLDING and "does not follow" in status.reason, "the reason"
    )
    assert "max_tracking_error" in robot.status.reason and "joint '" in robot.status.reason
    assert re.search("event=fault reason=.* does not follow", node.log)
    robot.wait_for_hold()
    follows[0] = 1.0
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.MOVING, "a motion")


@pytest.mark.parametrize("sensor", ["joint_states", "base_0_rgb"])
def test_sensor_repeats_itself(robot, tiny_checkpoint, sensor):
    """A sensor whose messages have new stamps but never change while the robot moves holds it until they do."""
    sensors = {"joint_states", *CAMERAS}
    robot.noisy = set(sensors)
    activate(robot, tiny_checkpoint, repeated_input_timeout=1.0)
    robot.wait_for_motion()
    robot.noisy = sensors - {sensor}
    robot.wait_for_status(
        lambda status: (
            status.activity == PolicyStatus.HOLDING
            and status.stale_inputs == [sensor]
            and f"{sensor} repeats itself" in status.reason
        ),
        "the reason",
    )
    robot.wait_for_hold()
    robot.noisy = sensors
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.MOVING, "a motion")


def test_joint_named_twice(robot, tiny_checkpoint):
    """Joint states that name a joint twice are refused, and the status names it."""
    activate(robot, tiny_checkpoint)
    assert_holds_and_resumes(
        robot,
        lambda: (robot.joint_names.append(JOINTS[3]), robot.positions.append(1.0)),
        lambda: (robot.joint_names.pop(), robot.positions.pop()),
        lambda status: f"name ['{JOINTS[3]}'] more than once" in status.last_error,
    )


def test_two_publishers_of_joint_states(robot, tiny_checkpoint):
    """The robot holds while two nodes publish joint states, and the status says so."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_motion()
    other = robot.node.create_publisher(JointState, "joint_states", qos_profile_sensor_data)

    def publish():
        message = JointState(name=JOINTS, position=[position + 0.3 for position in robot.positions])
        message.header.stamp = robot.node.get_clock().now().to_msg()
        other.publish(message)

    timer = robot.node.create_timer(0.03, publish)
    robot.wait_for_status(
        lambda status: (
            status.activity == PolicyStatus.HOLDING
            and f"several nodes publish on {robot.namespace}/joint_states" in status.reason
        ),
        "the conflict",
    )
    robot.node.destroy_timer(timer)
    robot.node.destroy_publisher(other)
    robot.wait_for_status(lambda status: status.activity == PolicyStatus.MOVING, "a motion")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_joint_position_not_finite(robot, tiny_checkpoint, value):
    """A joint position that is not finite is refused."""
    activate(robot, tiny_checkpoint)

    def put(position):
        robot.positions[3] = position

    assert_holds_and_resumes(
        robot, lambda: put(value), lambda: put(0.0), lambda status: "not finite" in status.last_error
    )


def test_robot_is_held_by_others(robot, tiny_checkpoint):
    """Somebody holds the arm: it is not where it was commanded to be."""
    activate(robot, tiny_checkpoint, max_jump_time=1.0)
    robot.wait_for_motion()
    robot.positions[0] = -1.9
    robot.wait_for_status(lambda status: "max_jump_time" in status.last_error, "a refusal")
    robot.wait_for_hold()
    assert f"joint '{JOINTS[0]}'" in robot.status.last_error
    robot.positions[0] = 0.0
    robot.wait_for_chunks(1)


def test_heartbeat_stops_and_returns(robot, tiny_checkpoint):
    """The heartbeat stops and returns."""
    heartbeat = robot.node.create_publisher(Empty, "pi0_policy/heartbeat", 1)
    timer = robot.node.create_timer(0.1, lambda: heartbeat.publish(Empty()))
    activate(robot, tiny_checkpoint, heartbeat_timeout=1.0)
    assert_holds_and_resumes(robot, timer.cancel, timer.reset, lambda status: status.stale_inputs == ["heartbeat"])
    robot.node.destroy_timer(timer)


def test_heartbeat_stops_while_the_node_is_stopped(robot, node, tiny_checkpoint):
    """The heartbeat ends while the node is kept from running: what waited in its queue does not move the robot.

    Regression: heartbeats counted from when they were received.
    """
    heartbeat = robot.node.create_publisher(Empty, "pi0_policy/heartbeat", 10)
    sent: list[float] = []
    timer = robot.node.create_timer(0.05, lambda: sent.append(time.monotonic()) or heartbeat.publish(Empty()))
    activate(robot, tiny_checkpoint, heartbeat_timeout=1.0)
    robot.wait_for_motion()
    node.process.send_signal(signal.SIGSTOP)
    count = len(sent)
    robot.spin_until(lambda: len(sent) >= count + 10, "heartbeats that wait")
    timer.cancel()
    robot.spin_until(lambda: time.monotonic() > sent[-1] + 1.5, "the end of the last one")
    resumed_ns = time.time_ns()
    node.process.send_signal(signal.SIGCONT)
    assert robot.receives_no_motion_since(resumed_ns, statuses=3)
    assert robot.status.stale_inputs == ["heartbeat"]
    timer.reset()
    robot.wait_for_motion()
    robot.node.destroy_timer(timer)


def test_instruction_timeout(robot, tiny_checkpoint):
    """The robot holds after `instruction_timeout`, until the next instruction."""
    activate(robot, tiny_checkpoint, instruction_timeout=3.0)
    robot.instruct("wave")
    assert_holds_and_resumes(
        robot,
        lambda: None,
        lambda: robot.instruct("go on"),
        lambda status: status.stale_inputs == ["instruction"],
    )


def test_instructions_at_200_hz(robot, tiny_checkpoint):
    """Instructions change within a chunk, 200 times a second."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(1)
    numbers = iter(range(400))
    timer = robot.node.create_timer(0.005, lambda: robot.instruct(f"number {next(numbers, 400)}"))
    robot.spin_until(lambda: robot.chunks[-1].instruction == "number 400", label="the last instruction")
    robot.node.destroy_timer(timer)
    assert len({chunk.instruction for chunk in robot.chunks}) > 2
    assert not error_of(robot.status)


@pytest.mark.parametrize(
    "text",
    ["x" * 10**6, "fold\x00\x01\x1b[31m\n\tthe\u202e towel", "折叠毛巾 طي المنشفة 🧺", "'; rm -rf / #"],
    ids=["1 MB", "control characters", "other scripts", "code"],
)
def test_unusual_instructions(robot, tiny_checkpoint, text):
    """Long instructions, control characters, other scripts and code reach the policy unchanged."""
    activate(robot, tiny_checkpoint)
    robot.wait_for_chunks(1)
    robot.instruct(text)
    text = text.partition("\x00")[0]  # a string ends there for DDS
    robot.spin_until(lambda: robot.chunks[-1].instruction == text, label="a chunk of it")
    robot.wait_for_status(lambda status: status.instruction == text[:200], "a status with it")
