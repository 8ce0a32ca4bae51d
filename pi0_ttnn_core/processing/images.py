"""Resize camera images to the model's square input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image


def resize_with_pad(image: np.ndarray, size: int) -> np.ndarray:
    """Fit an image into a square without distortion, pad it with black, and map it to [-1, 1].

    The pixels are those of LeRobot 0.6.1 (policies/common/vla_utils.py, `resize_with_pad_torch`, and its callers in the
    policies): bilinear without antialiasing, in [0, 1].

    Args:
        image: uint8, or float32 in [0, 1], [height, width, 3], RGB.
        size: side of the square, pixels.

    Returns:
        float32 [3, size, size] in [-1, 1]. An odd pixel of padding is at the bottom or right.
    """
    # Imported here: torch takes seconds to load, and most of the package does not need it.
    import torch
    from torch.nn import functional as F

    height, width = image.shape[:2]
    # Bytes are scaled after the resize, when there are fewer pixels.
    scale = 2.0 / 255.0 if image.dtype == np.uint8 else 2.0
    # In numpy: torch would split this small pass among threads, and wait for them when the cores are busy.
    image = np.ascontiguousarray(image, np.float32)
    if (height, width) == (size, size):
        return np.ascontiguousarray(image.transpose(2, 0, 1)) * np.float32(scale) - np.float32(1.0)
    ratio = max(width / size, height / size)
    new_height, new_width = int(height / ratio), int(width / ratio)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = F.interpolate(pixels, size=(new_height, new_width), mode="bilinear", align_corners=False)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square = torch.full((3, size, size), -1.0)
    square[:, top : top + new_height, left : left + new_width] = (resized[0] * scale - 1.0).clamp(-1.0, 1.0)
    return square.numpy()


def resize_with_pad_antialiased(image: np.ndarray, size: int) -> np.ndarray:
    """Do the same as `resize_with_pad`, but with openpi's pixels: bilinear with antialiasing, rounded to bytes.

    openpi's policies resize every image with openpi_client/image_tools.py, `resize_with_pad`.
    """
    if image.dtype != np.uint8:
        image = (image * 255).astype(np.uint8)
    height, width = image.shape[:2]
    square = np.zeros((size, size, 3), np.uint8)
    ratio = max(width / size, height / size)
    new_height, new_width = int(height / ratio), int(width / ratio)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((new_width, new_height), Image.Resampling.BILINEAR)
    square[top : top + new_height, left : left + new_width] = np.asarray(resized)
    return square.transpose(2, 0, 1).astype(np.float32) / np.float32(255.0) * np.float32(2.0) - np.float32(1.0)


# By conventions.
RESIZES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "lerobot": resize_with_pad,
    "openpi": resize_with_pad_antialiased,
}
