"""What goes into the policy and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class ObservationError(ValueError):
    """An observation that the policy refuses; the message names the part that is at fault."""


@dataclass(frozen=True)
class Observation:
    """What the robot sees and is at one moment.

    images: uint8 (or float32 in [0, 1]) [height, width, 3] RGB by the checkpoint's camera name; a missing camera is
        left out
    state: float32 [joints] in the robot's units
    stamp_ns: time of the observation on the robot's clock, nanoseconds
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    instruction: str
    stamp_ns: int


@dataclass(frozen=True)
class ActionChunk:
    """What the robot should do from the observation's moment on.

    actions: float32 [horizon, joints], in the robot's units
    stamp_ns: that of the observation, nanoseconds
    inference_time: seconds that the backend took for the model
    """

    actions: np.ndarray
    instruction: str
    stamp_ns: int
    inference_time: float
