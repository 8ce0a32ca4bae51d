"""Faults of cameras, joint states and heartbeat."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import cv2
import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, JointState

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS
from pi0_ttnn_ros.rclpy_utils.messages import time_message
from support.chaos.episode import COMPRESSED, IMAGE_TIMEOUT, JOINT_STATE_TIMEOUT, MAX_CHUNK_AGE
from support.chaos.fault import fault
from support.chaos.stage import Stage, Steps
from support.fake_robot import JOINTS

SECOND_PERIOD = 0.023  # seconds between two messages of another driver, which has a clock of its own
RAW = [camera for camera in CAMERAS if camera != COMPRESSED]


@fault("images")
def camera_stops(stage: Stage, random: Random) -> Steps:
    """A camera publishes nothing for a while."""
    yield from _silence(stage, random.choice(CAMERAS), IMAGE_TIMEOUT, random.uniform(0.7, 2.5))


@fault("joint states")
def joint_states_stop(stage: Stage, random: Random) -> Steps:
    """The joint states stop for a while."""
    yield from _silence(stage, "joint_states", JOINT_STATE_TIMEOUT, random.uniform(0.4, 1.5))


@fault("heartbeat")
def heartbeat_stops(stage: Stage, random: Random) -> Steps:
    """The heartbeat stops for a while."""
    timeout = stage.episode.heartbeat_timeout
    yield from _silence(stage, "heartbeat", timeout, timeout + random.uniform(0.4, 1.5))


@fault("images")
def camera_repeats_an_image(stage: Stage, random: Random) -> Steps:
    """A camera repeats one image with its stamp."""
    yield from _old_stamps(stage, random.choice(CAMERAS), IMAGE_TIMEOUT, random.uniform(0.7, 2.0))


@fault("joint states")
def joint_states_have_old_stamps(stage: Stage, random: Random) -> Steps:
    """The driver repeats one stamp."""
    yield from _old_stamps(stage, "joint_states", JOINT_STATE_TIMEOUT, random.uniform(0.4, 1.5))


@fault("images")
def bad_images(stage: Stage, random: Random) -> Steps:
    """The images of a camera cannot be used: short, damaged, of another encoding, huge."""
    kind = random.choice(sorted(BAD_IMAGES))
    cameras, make = BAD_IMAGES[kind]
    camera = random.choice(cameras)
    yield from _edited(stage, camera, make, f"{camera}: {kind}", random.uniform(1.3, 2.5))


@fault("joint states")
def bad_joint_states(stage: Stage, random: Random) -> Steps:
    """The joint states cannot be used: not finite, incomplete, ambiguous."""
    kind = random.choice(sorted(BAD_JOINT_STATES))
    make, joint = BAD_JOINT_STATES[kind], random.randrange(14)
    yield from _edited(
        stage, "joint_states", lambda message: make(message, joint), f"joint {joint} {kind}", random.uniform(1.3, 2.5)
    )


@fault("joint states")
def two_publishers_of_joint_states(stage: Stage, random: Random) -> Steps:
    """A second driver publishes other positions beside the first."""
    offset, seconds = random.choice([-1, 1]) * random.uniform(0.1, 1.0), random.uniform(1.0, 2.5)
    stage.note(f"a second publisher of joint states, {offset:+.2f} rad off, for {seconds:.2f} s")
    node = stage.listener.node
    publisher = node.create_publisher(JointState, "joint_states", qos_profile_sensor_data)
    yield publisher.get_subscription_count, "subscription of the node"

    def publish() -> None:
        message = JointState(name=JOINTS, position=(stage.robot.measured() + offset).tolist())
        message.header.stamp = time_message(stage.clock.now_ns())
        publisher.publish(message)

    timer = node.create_timer(SECOND_PERIOD, publish)
    due = stage.hold_due("joint states of two publishers", time.time_ns() + _ns(0.5))
    yield seconds
    stage.release(due)
    node.destroy_timer(timer)
    node.destroy_publisher(publisher)


@fault("images")
def camera_repeats_its_pixels(stage: Stage, random: Random) -> Steps:
    """A camera repeats one image with new stamps: noticed while the robot moves."""
    camera, kept = random.choice(CAMERAS), list[Any]()

    def repeat(message: Any) -> Any:
        kept[:] = kept or [message.data]
        message.data = kept[0]
        return message

    yield from _unnoticed(stage, camera, repeat, "repeats one image with new stamps", random.uniform(2.0, 5.0))


@fault("joint states")
def joint_states_repeat_themselves(stage: Stage, random: Random) -> Steps:
    """A driver repeats one position with new stamps: noticed while the robot moves.

    Until then the node takes it for true, and may start a motion there: that is not judged.
    """
    kept: list[Any] = []

    def repeat(message: JointState) -> JointState:
        kept[:] = kept or [message.position]
        message.position = kept[0]
        return message

    seconds = random.uniform(2.0, 5.0)
    for arm in stage.robot.arms.values():
        arm.allow(np.inf, time.time_ns() + _ns(seconds + 1.0))
    yield from _unnoticed(stage, "joint_states", repeat, "repeat one position", seconds)


@fault()
def heartbeat_dies_while_the_node_is_paused(stage: Stage, random: Random) -> Steps:
    """What waited in the node's queue is not a heartbeat any more."""
    timeout = stage.episode.heartbeat_timeout
    alive, dead = random.uniform(0.2, 1.0), timeout + random.uniform(0.5, 2.0)
    stage.note(f"node paused; the heartbeat ends after {alive:.2f} s, the pause {dead:.2f} s later")
    pause = stage.pause_node(alive + dead)
    next(pause)
    yield alive
    stage.robot.silent.add("heartbeat")
    due = stage.hold_due("heartbeat died while the node was paused", stage.robot.last_ns["heartbeat"] + _ns(timeout))
    yield dead
    for _ in pause:
        pass
    yield timeout + 1.0
    stage.release(due)
    stage.robot.silent.discard("heartbeat")


def _silence(stage: Stage, name: str, timeout: float, seconds: float) -> Steps:
    stage.note(f"{name} silent for {seconds:.2f} s")
    stage.robot.silent.add(name)
    due = stage.hold_due(f"{name} stopped", stage.robot.last_ns[name] + _ns(timeout))
    yield seconds
    stage.release(due)
    stage.robot.silent.discard(name)


def _old_stamps(stage: Stage, name: str, timeout: float, seconds: float) -> Steps:
    stage.note(f"{name} with an old stamp for {seconds:.2f} s")
    kept: list[Any] = []

    def repeat(message: Any) -> Any:
        kept[:] = kept or [message]
        message.header.stamp = kept[0].header.stamp
        return message if name == "joint_states" else kept[0]

    stage.robot.edits[name] = repeat
    due = stage.hold_due(f"{name} repeats a stamp", time.time_ns() + _ns(timeout + 0.1))
    yield seconds
    stage.release(due)
    del stage.robot.edits[name]


def _edited(stage: Stage, name: str, edit: Callable[[Any], Any], label: str, seconds: float) -> Steps:
    """Spoil the messages of an input: nothing is inferred any more, and what was inferred before expires.

    The last good message may be used until the first bad one is there.
    """
    stage.note(f"{label}, for {seconds:.2f} s")
    stage.robot.edits[name] = edit
    due = stage.hold_due(label, time.time_ns() + _ns(MAX_CHUNK_AGE + 0.1))
    yield seconds
    stage.release(due)
    del stage.robot.edits[name]


def _unnoticed(stage: Stage, name: str, edit: Callable[[Any], Any], label: str, seconds: float) -> Steps:
    """Spoil the messages of an input in a way that shows only while the robot moves."""
    stage.note(f"{name}: {label}, for {seconds:.2f} s")
    stage.robot.edits[name] = edit
    yield from stage.not_moving_on(f"{name}: {label}", seconds)
    del stage.robot.edits[name]


def _short(message: Image) -> Image:
    message.data = message.data[: len(message.data) // 2]
    return message


def _other_encoding(message: Image) -> Image:
    message.encoding = "16UC1"
    return message


def _empty(message: Image) -> Image:
    message.height = message.width = message.step = 0
    message.data = b""
    return message


def _claims_to_be_huge(message: Image) -> Image:
    message.height, message.width, message.step = 2**31, 2**31, 2**32 - 1
    return message


def _damaged(message: CompressedImage) -> CompressedImage:
    data = bytearray(message.data)
    middle = len(data) // 2
    data[middle : middle + 20] = bytes(20)
    message.data = bytes(data)
    return message


def _cut_off(message: CompressedImage) -> CompressedImage:
    message.data = message.data[: len(message.data) // 2]
    return message


def _not_an_image(message: CompressedImage) -> CompressedImage:
    message.data = b"not an image"
    return message


def _bomb(message: CompressedImage) -> CompressedImage:
    message.format, message.data = "png", huge_png()
    return message


@cache
def huge_png() -> bytes:
    """Return a PNG of some hundred kB whose pixels take 432 MB."""
    return cv2.imencode(".png", np.zeros((12000, 12000), np.uint8))[1].tobytes()


def _none_of_its_joints(message: JointState, joint: int) -> JointState:
    message.name = [f"other_{number}" for number in range(len(message.name))]
    return message


def _value(value: float) -> Callable[[JointState, int], JointState]:
    def edit(message: JointState, joint: int) -> JointState:
        message.position[joint] = value
        return message

    return edit


def _lacks(message: JointState, joint: int) -> JointState:
    message.name = [name for number, name in enumerate(message.name) if number != joint]
    message.position = [value for number, value in enumerate(message.position) if number != joint]
    return message


def _twice(message: JointState, joint: int) -> JointState:
    message.name = [*message.name, message.name[joint]]
    message.position = [*message.position, message.position[joint] + 0.3]
    return message


def _too_few_positions(message: JointState, joint: int) -> JointState:
    message.position = message.position[:joint]
    return message


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


# Cameras and what is made of their messages, by the kind in words. Bytes are published as a serialized message.
BAD_IMAGES: dict[str, tuple[list[str], Callable[[Any], Any]]] = {
    "half of the data": (RAW, _short),
    "another encoding": (RAW, _other_encoding),
    "no pixels": (RAW, _empty),
    "a claim of 2^62 pixels": (RAW, _claims_to_be_huge),
    "4 bytes in all": (list(CAMERAS), lambda _: b"\0\1\0\0"),
    "11 bytes in all": (list(CAMERAS), lambda _: b"\0\1\0\0" + bytes(7)),
    "nothing but ones": (list(CAMERAS), lambda _: b"\0\1\0\0" + b"\xff" * 200),
    "a damaged JPEG": ([COMPRESSED], _damaged),
    "a JPEG that is cut off": ([COMPRESSED], _cut_off),
    "not an image": ([COMPRESSED], _not_an_image),
    "a PNG of 144 megapixels": ([COMPRESSED], _bomb),
}
BAD_JOINT_STATES: dict[str, Callable[[JointState, int], JointState]] = {
    "is NaN": _value(float("nan")),
    "is infinite": _value(float("-inf")),
    "is missing": _lacks,
    "is there twice": _twice,
    "and all others have other names": _none_of_its_joints,
    "is the first without a position": _too_few_positions,
}
