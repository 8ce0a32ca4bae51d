"""ROS messages to numpy: every encoding gives the same pixels, and bad messages are refused by field."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState

from pi0_ttnn_ros.observation.decoding import positions_from_message
from pi0_ttnn_ros.observation.images import ConversionError
from pi0_ttnn_ros.observation.pixels import image_from_message
from pi0_ttnn_ros.observation.stamps import nanoseconds, serialized_stamp
from pi0_ttnn_ros.rclpy_utils.messages import time_message, trajectory_message

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
ALPHA = np.full((5, 7, 1), 17, np.uint8)
PIXELS = {
    "rgb8": RGB,
    "bgr8": RGB[:, :, ::-1],
    "rgba8": np.concatenate([RGB, ALPHA], axis=2),
    "bgra8": np.concatenate([RGB[:, :, ::-1], ALPHA], axis=2),
}


def image_message(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    rows = pixels.reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    height, step = rows.shape
    return Image(height=height, width=pixels.shape[1], step=step, encoding=encoding, data=rows.tobytes())


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", PIXELS)
def test_image_encodings(encoding, padding):
    """Every supported encoding is decoded to RGB."""
    np.testing.assert_array_equal(image_from_message(image_message(PIXELS[encoding], encoding, padding)), RGB)


def test_grey_becomes_three_equal_channels():
    grey = image_from_message(image_message(RGB[:, :, 0], "mono8"))
    np.testing.assert_array_equal(grey, RGB[:, :, :1].repeat(3, axis=2))


def test_a_compressed_image_gives_rgb():
    data = cv2.imencode(".png", RGB[:, :, ::-1])[1].tobytes()
    np.testing.assert_array_equal(image_from_message(CompressedImage(format="png", data=data)), RGB)


@pytest.mark.parametrize(
    ("message", "culprit"),
    [
        (image_message(RGB, "16UC1"), "encoding '16UC1'"),
        (Image(height=5, width=7, step=21, encoding="rgb8", data=b"\0" * 104), "104 bytes does not fit"),
        (Image(height=5, width=7, step=20, encoding="rgb8", data=b"\0" * 100), "step 20"),
        (Image(height=0, width=0, step=0, encoding="rgb8"), "height 0"),
        (CompressedImage(format="jpeg", data=b"no image"), "8 bytes, format 'jpeg', is damaged"),
        (CompressedImage(format="jpeg"), "0 bytes"),
    ],
)
def test_an_image_that_cannot_be_read_is_refused(message, culprit):
    with pytest.raises(ConversionError, match=culprit):
        image_from_message(message)


def test_joint_states_in_requested_order():
    """Positions are returned in the order of the requested joints."""
    message = JointState(name=["c", "a", "b"], position=[3.0, 1.0, 2.0])
    assert positions_from_message(message, ["a", "b", "c"]).tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ConversionError, match=r"lack \['d'\]"):
        positions_from_message(message, ["a", "d"])
    with pytest.raises(ConversionError, match="3 names and 2 positions"):
        positions_from_message(JointState(name=["a", "b", "c"], position=[1.0, 2.0]), ["a"])


def test_a_trajectory_keeps_its_numbers():
    stamp_ns = 1_795_000_000_123_456_789
    message = trajectory_message(
        stamp_ns, ["a"], np.array([5, 2 * 10**9 + 7]), np.array([[1.0], [2.0]]), np.zeros((2, 1))
    )
    assert nanoseconds(message.header.stamp) == stamp_ns == nanoseconds(time_message(stamp_ns))
    times = [(point.time_from_start.sec, point.time_from_start.nanosec) for point in message.points]
    assert times == [(0, 5), (2, 7)]
    assert [list(point.positions) for point in message.points] == [[1.0], [2.0]]


@pytest.mark.parametrize("stamp_ns", [0, 1_700_000_000_123_456_789, -1])
@pytest.mark.parametrize("message", [Image(encoding="rgb8", data=bytes(3)), CompressedImage(format="jpeg")])
def test_the_stamp_of_a_serialized_message_can_be_read(message, stamp_ns):
    message.header.stamp = time_message(stamp_ns)
    message.header.frame_id = "camera"
    serialized = serialize_message(message)
    assert serialized_stamp(serialized) == stamp_ns
    seconds, nanosec = serialized[4:8][::-1], serialized[8:12][::-1]
    assert serialized_stamp(b"\x00\x00\x00\x00" + seconds + nanosec) == stamp_ns  # big endian
