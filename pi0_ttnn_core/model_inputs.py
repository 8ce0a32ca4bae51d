"""Inputs of one inference of the bare model: arrays of static shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from pi0_ttnn_core.configs import PI0Config


class InputError(ValueError):
    """An invalid model input; the message names the array and what was expected."""


@dataclass(frozen=True)
class ModelInputs:
    """One batch of model inputs.

    Attributes:
        images: float32 [batch, cameras, 3, size, size] in [-1, 1], RGB.
        image_masks: bool [batch, cameras]. False for a missing camera.
        tokens: int32 [batch, tokens]. Prompt tokens.
        token_mask: bool [batch, tokens]. False for padding.
        state: float32 [batch, action_dim], normalised. Padded with zeros.
        noise: float32 [batch, horizon, action_dim], standard normal.
    """

    images: np.ndarray
    image_masks: np.ndarray
    tokens: np.ndarray
    token_mask: np.ndarray
    state: np.ndarray
    noise: np.ndarray


UNBATCHED_NDIM = {"images": 4, "image_masks": 1, "tokens": 1, "token_mask": 1, "state": 1, "noise": 2}
KINDS = {"images": "f", "image_masks": "b", "tokens": "iu", "token_mask": "b", "state": "f", "noise": "f"}
DTYPES = {"f": np.float32, "b": np.bool_, "iu": np.int32}


def model_inputs(arrays: Mapping[str, np.ndarray], config: PI0Config) -> tuple[ModelInputs, bool]:
    """Check named arrays; return them as a batch, and whether they already had a batch axis.

    Raises:
        InputError: an array is missing, unknown, or not finite, or has the wrong shape or dtype.
    """
    names = [field.name for field in fields(ModelInputs)]
    missing = [name for name in names if name not in arrays]
    unknown = [name for name in arrays if name not in names]
    if missing or unknown:
        raise InputError(f"inputs: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}; expected {names}")
    batched = {arrays[name].ndim == UNBATCHED_NDIM[name] + 1 for name in names}
    if len(batched) > 1:
        shapes = {name: list(arrays[name].shape) for name in names}
        raise InputError(f"inputs: either all arrays or none must have a leading batch axis; shapes are {shapes}")
    has_batch = batched.pop()
    inputs = ModelInputs(**{name: _checked(name, arrays[name], has_batch) for name in names})
    _check_shapes(inputs, config)
    if inputs.tokens.size and not 0 <= inputs.tokens.min() <= inputs.tokens.max() < config.vocab_size:
        raise InputError(f"tokens must lie in 0..{config.vocab_size - 1}")
    return inputs, has_batch


def _checked(name: str, array: np.ndarray, has_batch: bool) -> np.ndarray:
    kind = KINDS[name]
    if array.dtype.kind not in kind:
        raise InputError(f"{name} must be {DTYPES[kind].__name__}, not {array.dtype}")
    if kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{name} has values that are not finite (NaN or infinity)")
    array = np.ascontiguousarray(array, DTYPES[kind])
    return array if has_batch else array[None]


def _check_shapes(inputs: ModelInputs, config: PI0Config) -> None:
    batch, cameras = inputs.images.shape[:2]
    tokens = inputs.tokens.shape[1:]
    size = config.vision.image_size
    expected = {
        "images": (batch, cameras, 3, size, size),
        "image_masks": (batch, cameras),
        "tokens": (batch, *tokens),
        "token_mask": (batch, *tokens),
        "state": (batch, config.action_dim),
        "noise": (batch, config.action_horizon, config.action_dim),
    }
    for name, shape in expected.items():
        found = getattr(inputs, name).shape
        if found != shape:
            raise InputError(f"{name} has shape {list(found)}, expected {list(shape)}")
    if not 1 <= cameras <= config.num_cameras:
        raise InputError(f"images has {cameras} cameras, expected 1 to {config.num_cameras}")
    if not inputs.image_masks.any(axis=1).all():
        raise InputError("image_masks: at least one camera must be present")


def random_inputs(config: PI0Config, cameras: int, prompt_tokens: int = 20) -> ModelInputs:
    """Return a random batch of one with `cameras` cameras and `prompt_tokens` tokens; the other slots are masked."""
    random = np.random.default_rng(0)
    size = config.vision.image_size
    return ModelInputs(
        images=random.uniform(-1, 1, (1, config.num_cameras, 3, size, size)).astype(np.float32),
        image_masks=np.arange(config.num_cameras)[None] < cameras,
        tokens=random.integers(3, config.vocab_size, (1, config.max_prompt_tokens)).astype(np.int32),
        token_mask=np.arange(config.max_prompt_tokens)[None] < prompt_tokens,
        state=random.standard_normal((1, config.action_dim)).astype(np.float32),
        noise=random.standard_normal((1, config.action_horizon, config.action_dim)).astype(np.float32),
    )
