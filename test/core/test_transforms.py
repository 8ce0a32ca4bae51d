"""Transforms against closed forms and an independent resize."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_ttnn_core.processing.images import resize_with_pad
from pi0_ttnn_core.processing.normalization import MeanStd
from pi0_ttnn_core.processing.transforms import pad_vector


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize bilinearly by definition: pixel centres at half integers, the border repeated, float64."""
    rows = np.clip((np.arange(height) + 0.5) * image.shape[0] / height - 0.5, 0, image.shape[0] - 1)
    columns = np.clip((np.arange(width) + 0.5) * image.shape[1] / width - 0.5, 0, image.shape[1] - 1)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom, right = np.minimum(top + 1, image.shape[0] - 1), np.minimum(left + 1, image.shape[1] - 1)
    down, across = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = image[top][:, left] * (1 - across) + image[top][:, right] * across
    lower = image[bottom][:, left] * (1 - across) + image[bottom][:, right] * across
    return upper * (1 - down) + lower * down


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (480, 640, (168, 224, 28, 0)),
        (640, 480, (224, 168, 0, 28)),
        (224, 224, (224, 224, 0, 0)),
        (37, 101, (82, 224, 71, 0)),
        (50, 49, (224, 219, 0, 2)),  # five columns of padding: the odd one on the right
        (1, 1, (224, 224, 0, 0)),
    ],
)
def test_an_image_is_fitted_and_padded(height, width, box):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    new_height, new_width, top, left = box
    expected = np.full((224, 224, 3), -1.0)
    expected[top : top + new_height, left : left + new_width] = bilinear(image / 255.0, new_height, new_width) * 2 - 1
    result = resize_with_pad(image, 224)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.transpose(1, 2, 0), expected, atol=2e-4)


def test_an_image_may_be_a_view():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    flipped = image[:, :, ::-1]
    np.testing.assert_array_equal(resize_with_pad(flipped, 224), resize_with_pad(flipped.copy(), 224))


@given(
    st.lists(st.floats(-10, 10), min_size=4, max_size=4),
    st.lists(st.floats(0.01, 10), min_size=4, max_size=4),
)
def test_normalization_has_an_inverse(values, std):
    x = np.array(values, np.float32)
    normalization = MeanStd(np.arange(4, dtype=np.float32), np.array(std, np.float32), 1e-8, 0.0)
    np.testing.assert_allclose(normalization.unnormalize(normalization.normalize(x)), x, rtol=1e-4, atol=1e-4)


def test_normalization_formulas():
    """Each kind of normalization against its formula."""
    normalization = MeanStd(np.array([1.0]), np.array([2.0]), 0.5, 0.0)
    assert normalization.normalize(np.array([6.0])) == pytest.approx(2.0)  # (6 - 1) / (2 + 0.5)
    assert normalization.unnormalize(np.array([2.0])) == pytest.approx(5.0)  # 2 * 2 + 1


def test_padding_adds_zeros_at_the_end():
    assert pad_vector(np.ones((2, 3)), 5).tolist() == [[1, 1, 1, 0, 0]] * 2
