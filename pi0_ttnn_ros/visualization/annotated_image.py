"""One picture of what the policy sees and does: the cameras side by side above lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

HEIGHT = 240  # pixels of a camera's image
LINE = 22  # pixels of a line of text
FONT, SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
WHITE = (255, 255, 255)


def annotated_image(images: Mapping[str, np.ndarray], lines: Sequence[str]) -> np.ndarray:
    """Return the cameras' images side by side with their names, and the lines below: uint8 [height, width, 3], RGB.

    Characters outside ASCII appear as question marks.

    Args:
        images: uint8 [height, width, 3], RGB, by the camera's name.
        lines: lines of text.
    """
    views = []
    for camera, image in images.items():
        width = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
        view = np.ascontiguousarray(cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA))
        views.append(_write(view, camera, LINE))
    picture = np.hstack(views)
    below = np.zeros((LINE * len(lines) + LINE // 3, picture.shape[1], 3), np.uint8)
    for number, line in enumerate(lines, start=1):
        _write(below, line, LINE * number)
    return np.vstack([picture, below])


def _write(image: np.ndarray, text: str, y: int) -> np.ndarray:
    text = text.encode("ascii", "replace").decode()
    for color, thickness in (((0, 0, 0), 3), (WHITE, 1)):  # an outline, for bright images
        cv2.putText(image, text, (6, y - 6), FONT, SCALE, color, thickness, cv2.LINE_AA)
    return image
