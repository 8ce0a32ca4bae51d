"""Input and output of the policy: `Observation` and `ActionChunk`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class ObservationError(ValueError):
    """An invalid observation; the message names the invalid part."""


@dataclass(frozen=True)
class Observation:
    """Camera images, robot state and instruction at one moment.

    Attributes:
        images: uint8, or float32 in [0, 1], [height, width, 3], RGB. By the checkpoint's camera name; a missing camera
            is omitted.
        state: float32 [joints], in the robot's units.
        instruction: the task, in words.
        stamp_ns: time of the observation on the robot's clock.
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    instruction: str
    stamp_ns: int


@dataclass(frozen=True)
class ActionChunk:
    """Predicted actions, from the moment of the observation on.

    Attributes:
        actions: float32 [horizon, joints], in the robot's units.
        instruction: that of the observation.
        stamp_ns: that of the observation.
        inference_time: time that the backend took for the model, s.
    """

    actions: np.ndarray
    instruction: str
    stamp_ns: int
    inference_time: float
