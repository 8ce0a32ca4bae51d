"""The pixels of image messages of any library with ROS's fields: rclpy's, a bag reader's, or those of `images`."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import simplejpeg

from pi0_ttnn_ros.observation.images import ConversionError

# Encoding -> number of channels in memory, and the indices of red, green and blue.
ENCODINGS = {
    "rgb8": (3, [0, 1, 2]),
    "bgr8": (3, [2, 1, 0]),
    "rgba8": (4, [0, 1, 2]),
    "bgra8": (4, [2, 1, 0]),
    "mono8": (1, [0, 0, 0]),
}
# Larger images are not decoded: a small file can hold a huge one. 4096x4096, 50 MB of pixels.
MAX_PIXELS = 1 << 24
MAX_MESSAGE_SIZE = 4 * MAX_PIXELS + 4096  # bytes; with four channels, and what stands before the pixels
JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"  # what the files begin with
# What a camera says about its image, in the first kilobytes of a JPEG.
EXIF, EXIF_SIZE = b"Exif\0\0", 4096


def image_header(message: Any) -> tuple[int, int, str]:
    """Return width, height and encoding of an Image, or of the JPEG or PNG in a CompressedImage, without decoding it.

    Raises:
        ConversionError: the encoding is unknown, the image is too large, or its header is damaged.
    """
    if hasattr(message, "format"):
        width, height, encoding = _file_header(message)
    else:
        width, height, encoding = message.width, message.height, message.encoding
        if encoding not in ENCODINGS:
            raise ConversionError(f"image encoding {encoding!r} is not one of {list(ENCODINGS)}")
    if width * height > MAX_PIXELS:
        raise ConversionError(
            f"image of {width}x{height} pixels is too large: at most {MAX_PIXELS / 1e6:.1f} megapixels are decoded"
        )
    return width, height, encoding


def image_from_message(message: Any) -> np.ndarray:
    """Return the pixels of an Image or a CompressedImage, uint8 [height, width, 3], RGB.

    Raises:
        ConversionError: as for `image_header`; or the data does not fit height, width and step, or is damaged.
    """
    width, height, encoding = image_header(message)
    if encoding == "jpeg":
        return _from_jpeg(message)
    if encoding == "png":
        return _from_opencv(message)
    channels, order = ENCODINGS[encoding]
    data = np.frombuffer(message.data, np.uint8)
    row = width * channels
    if data.size != height * message.step or message.step < row or row == 0 or height == 0:
        raise ConversionError(
            f"image data of {data.size} bytes does not fit height {height}, width {width}, step {message.step}, "
            f"encoding {encoding}"
        )
    pixels = data.reshape(height, message.step)[:, :row].reshape(height, width, channels)
    return pixels if encoding == "rgb8" else pixels[:, :, order]


def _file_header(message: Any) -> tuple[int, int, str]:
    data = np.frombuffer(message.data, np.uint8)
    begin = data[:24].tobytes()
    if begin.startswith(PNG) and len(begin) == 24:
        return *struct.unpack(">II", begin[16:]), "png"
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise _damaged(message, str(error) if begin.startswith(JPEG) else "it is neither JPEG nor PNG") from error
    return width, height, "jpeg"


def _from_jpeg(message: Any) -> np.ndarray:
    """Decode a JPEG. OpenCV's decoder takes every damaged one; this one takes those that are still a JPEG."""
    data = np.frombuffer(message.data, np.uint8)
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        raise _damaged(message, str(error)) from error
    # A camera that is mounted upside down may say so there. OpenCV turns the image.
    return _from_opencv(message) if EXIF in data[:EXIF_SIZE].tobytes() else pixels


def _from_opencv(message: Any) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise _damaged(message, "it does not decode")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _damaged(message: Any, reason: str) -> ConversionError:
    size = len(message.data)
    return ConversionError(f"compressed image of {size} bytes, format {message.format!r}, is damaged: {reason}")
