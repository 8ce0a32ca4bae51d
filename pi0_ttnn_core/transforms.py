"""Images, states and actions: to the model's units and back.

All formulas as in LeRobot 0.6.1 (policies/common/vla_utils.py, processor/normalize_processor.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / (std + eps) and its inverse x * std + mean, for vectors of one size."""

    mean: np.ndarray
    std: np.ndarray
    eps: float

    @staticmethod
    def identity(size: int) -> Normalization:
        return Normalization(np.zeros(size, np.float32), np.ones(size, np.float32), 0.0)

    @property
    def size(self) -> int:
        return len(self.mean)

    def normalize(self, x: np.ndarray) -> np.ndarray:
        """Map [..., size] in the robot's units to the model's."""
        return ((x - self.mean) / (self.std + self.eps)).astype(np.float32)

    def unnormalize(self, x: np.ndarray) -> np.ndarray:
        """Map [..., size] in the model's units to the robot's."""
        return (x * self.std + self.mean).astype(np.float32)


def resize_with_pad(image: np.ndarray, size: int) -> np.ndarray:
    """Fit an image into a square without distortion, black around it, and map it to [-1, 1].

    Args:
        image: uint8 [height, width, 3], RGB.
        size: side of the square in pixels.
    Returns:
        float32 [3, size, size] in [-1, 1]. An odd pixel of padding lies at the bottom or right.
    """
    height, width = image.shape[:2]
    ratio = max(height / size, width / size)
    new_height, new_width = int(height / ratio), int(width / ratio)
    # In numpy: torch would share this small pass among threads, and wait for them where the cores are busy.
    pixels = torch.from_numpy(np.divide(image, np.float32(255.0), dtype=np.float32)).permute(2, 0, 1)[None]
    resized = F.interpolate(pixels, size=(new_height, new_width), mode="bilinear", align_corners=False)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square = torch.full((3, size, size), -1.0)
    square[:, top : top + new_height, left : left + new_width] = resized[0].clamp(0.0, 1.0) * 2.0 - 1.0
    return square.numpy()


def pad_vector(x: np.ndarray, size: int) -> np.ndarray:
    """Pad the last axis with zeros to `size`."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])
