"""The picture of what the policy sees and does."""

from __future__ import annotations

import numpy as np

from pi0_ttnn_ros.visualization.annotated_image import HEIGHT, annotated_image


def test_annotated_image():
    """Cameras stand side by side, with the lines of text below."""
    images = {"left": np.full((48, 64, 3), [200, 0, 0], np.uint8), "right": np.full((480, 480, 3), 90, np.uint8)}
    picture = annotated_image(images, ["fold the towel", "moving"])
    width = HEIGHT * 64 // 48 + HEIGHT
    assert picture.dtype == np.uint8 and picture.shape[1:] == (width, 3) and picture.shape[0] > HEIGHT
    assert picture[HEIGHT // 2, 10].tolist() == [200, 0, 0]
    assert picture[HEIGHT // 2, -10].tolist() == [90, 90, 90]
    other = annotated_image(images, ["open the drawer", "moving"])
    changed = np.argwhere((picture != other).any(axis=2))
    assert len(changed) and changed[:, 0].min() >= HEIGHT
    np.testing.assert_array_equal(annotated_image(images, ["折"]), annotated_image(images, ["?"]))
