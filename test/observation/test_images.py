"""Images as they are received: no damage is passed over that can be seen, and nothing huge is unpacked."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from pi0_ttnn_ros.observation.buffer import Snapshot
from pi0_ttnn_ros.observation.decoding import encoded_observation
from pi0_ttnn_ros.observation.images import ConversionError, SerializedImage
from pi0_ttnn_ros.observation.pixels import MAX_PIXELS, image_from_message
from support.images import black_png
from support.memory import run_python

RANDOM = np.random.default_rng(0)
# What a camera sees: shapes, and a little noise.
SHAPES = cv2.resize(RANDOM.integers(0, 256, (15, 20, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
SCENE = np.clip(SHAPES.astype(np.int16) + RANDOM.integers(-4, 5, SHAPES.shape), 0, 255).astype(np.uint8)
SAMPLING = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
PROGRESSIVE = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]


def jpeg(pixels=SCENE, *options: int) -> np.ndarray:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85, *options])[1]


def decoded(data) -> np.ndarray:
    return image_from_message(SimpleNamespace(format="", data=memoryview(bytes(data))))


def refused(data) -> bool:
    try:
        decoded(data)
    except ConversionError:
        return True
    return False


# Serialized messages


@pytest.mark.parametrize("frame", ["", "a", "cam", "camera_link"])
def test_fields_of_a_serialized_message(frame):
    """The fields are those that ROS serialized, wherever its padding is."""
    for encoding in ("rgb8", "mono8", "bayer_rggb8"):
        image = Image(height=2, width=3, encoding=encoding, is_bigendian=1, step=9, data=bytes(range(18)))
        image.header.frame_id = frame
        found = SerializedImage(serialize_message(image), False).message()
        assert (found.height, found.width, found.encoding, found.step) == (2, 3, encoding, 9)
        assert bytes(found.data) == bytes(range(18))
    compressed = CompressedImage(format="rgb8; jpeg compressed bgr8", data=b"\1\2\3")
    compressed.header.frame_id = frame
    found = SerializedImage(serialize_message(compressed), True).message()
    assert (found.format, bytes(found.data)) == ("rgb8; jpeg compressed bgr8", b"\1\2\3")


@pytest.mark.parametrize("compressed", [False, True])
def test_serialized_message_cut_off_or_damaged(compressed):
    """Any bytes are an image or are refused."""
    raw = serialize_message(Image(height=4, width=4, encoding="rgb8", step=12, data=bytes(48)))
    for end in range(len(raw)):
        with pytest.raises(ConversionError):
            image_from_message(SerializedImage(raw[:end], compressed).message())
    for _ in range(2000):
        damaged = bytearray(raw)
        for position in RANDOM.integers(0, len(raw), 3):
            damaged[position] = RANDOM.integers(0, 256)
        with contextlib.suppress(ConversionError):
            assert image_from_message(SerializedImage(bytes(damaged), compressed).message()).dtype == np.uint8


# Pixels


@pytest.mark.parametrize(
    "options",
    [[], PROGRESSIVE, *([*SAMPLING, factor] for factor in (0x111111, 0x211111, 0x121111, 0x411111))],
    ids=["420", "progressive", "444", "422", "440", "411"],
)
def test_pixels_of_a_jpeg(options):
    """They are those of OpenCV, with which ROS and LeRobot decode, to the last bit."""
    data = jpeg(SCENE, *options)
    np.testing.assert_array_equal(decoded(data), cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])


def test_grey_jpeg():
    grey = decoded(jpeg(SCENE[:, :, 0]))
    assert grey.shape == SCENE.shape and (grey[:, :, :1] == grey).all()


def test_turned_jpeg():
    """A camera that says how its image is to be turned has it turned."""
    data = jpeg().tobytes()
    orientation = bytes.fromhex("4d4d002a00000008 0001 0112 0003 00000001 00030000 00000000")
    upside_down = bytes.fromhex("ffe1 0022") + b"Exif\0\0" + orientation
    turned = decoded(data[:2] + upside_down + data[2:])
    np.testing.assert_array_equal(turned, decoded(data)[::-1, ::-1])


# Damage


def losses(data: np.ndarray, count: int) -> list[np.ndarray]:
    """What a bus or a network loses: the end, or a packet, which is missing or zero."""
    found = []
    for start in RANDOM.integers(len(data) // 10, len(data) - 600, count):
        zero = data.copy()
        zero[start : start + 512] = 0
        found += [data[:start], np.delete(data, slice(start, start + 512)), zero]
    return found


def overwritten(data: np.ndarray, count: int, size: int = 20) -> list[np.ndarray]:
    """Return the data with some bytes in its middle replaced by random ones."""
    found = []
    for start in RANDOM.integers(len(data) // 10, len(data) * 9 // 10 - size, count):
        found.append(data.copy())
        found[-1][start : start + size] = RANDOM.integers(0, 256, size, np.uint8)
    return found


@pytest.mark.parametrize(("options", "share"), [([], 1.0), (PROGRESSIVE, 0.9)], ids=["baseline", "progressive"])
def test_jpeg_that_lacks_a_part(options, share):
    """A JPEG of which a packet or the end was lost is refused; progressive ones are no camera's."""
    damaged = losses(jpeg(SCENE, *options), 100)
    assert sum(map(refused, damaged)) >= share * len(damaged)


def test_jpeg_with_overwritten_bytes():
    """A JPEG has no checksum: refused is what is no longer a JPEG."""
    damaged = [
        each for quality in (50, 85) for each in overwritten(jpeg(SCENE, cv2.IMWRITE_JPEG_QUALITY, quality), 150)
    ]
    assert sum(map(refused, damaged)) > 0.5 * len(damaged)


def test_damaged_png():
    """A PNG has checksums: every damage is refused."""
    data = cv2.imencode(".png", SCENE)[1]
    damaged = [*losses(data, 20), *overwritten(data, 20, size=1)]
    assert all(refused(each) or np.array_equal(each, data) for each in damaged)


def test_other_files():
    """Only what image_transport publishes is decoded."""
    for suffix in (".bmp", ".tiff", ".webp"):
        with pytest.raises(ConversionError, match="neither JPEG nor PNG"):
            decoded(cv2.imencode(suffix, SCENE)[1])


# Size


def huge_jpeg() -> bytes:
    """Return a JPEG whose header says 60000x60000."""
    data = jpeg().tobytes()
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + b"\xea\x60\xea\x60" + data[start + 4 :]


@pytest.mark.parametrize(("data", "size"), [(black_png(17000, 17000), "17000x17000"), (huge_jpeg(), "60000x60000")])
def test_a_huge_image_is_refused(data, size):
    """An image is refused by what its header says."""
    with pytest.raises(ConversionError, match=f"{size} pixels is too large: at most 16.8 megapixels"):
        decoded(data)


def test_a_huge_image_takes_no_memory(tmp_path):
    """It is refused before it is unpacked: a PNG of a few kilobytes would take a gigabyte."""
    (tmp_path / "huge.png").write_bytes(black_png(17000, 17000))
    program = (
        "import os, sys; from pathlib import Path; from types import SimpleNamespace\n"
        "from pi0_ttnn_ros.observation.images import ConversionError\n"
        "from pi0_ttnn_ros.observation.pixels import image_from_message\n"
        "from support.memory import peak_memory\n"
        "data = Path(sys.argv[1]).read_bytes()\n"
        "before = peak_memory(os.getpid())\n"
        "try: image_from_message(SimpleNamespace(format='png', data=data))\n"
        "except ConversionError: pass\n"
        "print(peak_memory(os.getpid()) - before)"
    )
    assert float(run_python(program, str(tmp_path / "huge.png"))) < 20  # MiB


def test_a_huge_message_is_not_passed_on():
    """A raw image that is too large is refused before it is sent to the policy process."""
    joint_states = SimpleNamespace(name=["a"], position=[0.0])
    snapshot = Snapshot({"top": SerializedImage(bytes(68_000_000), False)}, joint_states, "wave", 0)
    with pytest.raises(ConversionError, match="camera 'top': image message of 68 MB is too large"):
        encoded_observation(snapshot, ["a"])


def test_the_largest_image():
    side = int(MAX_PIXELS**0.5)
    assert decoded(black_png(side, side)).shape == (side, side, 3)
    with pytest.raises(ConversionError, match="too large"):
        decoded(black_png(side, side + 1))
    with pytest.raises(ConversionError, match="too large"):
        image_from_message(Image(height=side, width=side + 1, encoding="mono8"))
