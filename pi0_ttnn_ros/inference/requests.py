"""What the node asks of the policy process and what that answers, as messages of `framing`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pi0_ttnn_core.policy_io import ActionChunk
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_ros.inference.framing import FramingError, Message
from pi0_ttnn_ros.observation.decoding import EncodedObservation
from pi0_ttnn_ros.observation.images import SerializedImage


@dataclass(frozen=True)
class PolicyOptions:
    """What to load: the arguments of `load_policy`, which describes them.

    Attributes:
        robot: parameters of the robot by full name, for `robot_from_parameters`.
    """

    folder: str
    backend: str
    robot: dict[str, Any] = field(repr=False)
    dtype: str = "float32"
    precision: str = "default"
    num_steps: int | None = None
    seed: int = 0
    with_guidance: bool = False
    device_id: str = ""


@dataclass(frozen=True)
class PolicyDescription:
    """What was loaded.

    Attributes:
        backend: name of the backend.
        device: the backend's device in words.
    """

    backend: str
    device: str


class PolicyError(RuntimeError):
    """The policy refused a request or failed, and can be asked again; the message is the policy's own."""


def loading(options: PolicyOptions) -> Message:
    """Return the request to load a policy."""
    return asdict(options), {}


def options_of(message: Message) -> PolicyOptions:
    """Return what to load."""
    return PolicyOptions(**message[0])


def inference(observation: EncodedObservation, target: GuidanceTarget | None) -> Message:
    """Return the request to infer."""
    images = {camera: image.is_compressed for camera, image in observation.images.items()}
    arrays = {f"image {camera}": np.frombuffer(image.raw, np.uint8) for camera, image in observation.images.items()}
    arrays["state"] = observation.state
    if target is not None:
        arrays |= {"target": target.actions.astype(np.float32), "weights": target.weights.astype(np.float32)}
    return {"images": images, "instruction": observation.instruction, "stamp_ns": observation.stamp_ns}, arrays


def observation_of(message: Message) -> tuple[EncodedObservation, GuidanceTarget | None]:
    """Return what to infer from."""
    content, arrays = message
    images = {
        camera: SerializedImage(arrays[f"image {camera}"].data, is_compressed)
        for camera, is_compressed in content["images"].items()
    }
    observation = EncodedObservation(images, arrays["state"], content["instruction"], content["stamp_ns"])
    return observation, GuidanceTarget(arrays["target"], arrays["weights"]) if "target" in arrays else None


def failure(text: str) -> Message:
    """Return the answer to a request that failed."""
    return {"error": text}, {}


def loaded(description: PolicyDescription) -> Message:
    """Return the answer to a request to load a policy."""
    return asdict(description), {}


def inferred(chunk: ActionChunk) -> Message:
    """Return the answer to a request to infer; the node knows instruction and stamp."""
    return {"inference_time": chunk.inference_time}, {"actions": np.ascontiguousarray(chunk.actions, np.float32)}


def description_of(answer: Message) -> PolicyDescription:
    """Return what was loaded.

    Raises:
        PolicyError: it cannot be loaded.
        FramingError: the answer is not one to this request.
    """
    content = _checked(answer)
    if not (isinstance(content.get("backend"), str) and isinstance(content.get("device"), str)):
        raise FramingError("the answer does not describe a policy")
    return PolicyDescription(content["backend"], content["device"])


def chunk_of(answer: Message, observation: EncodedObservation) -> ActionChunk:
    """Return the chunk inferred from `observation`.

    Raises:
        PolicyError: the inference failed.
        FramingError: the answer is not one to this request.
    """
    seconds, actions = _checked(answer).get("inference_time"), answer[1].get("actions", np.empty(0))
    if not (isinstance(seconds, float) and math.isfinite(seconds)):
        raise FramingError("the answer has no inference time")
    if actions.dtype != np.float32 or actions.ndim != 2 or actions.shape[1] != len(observation.state):
        raise FramingError("the answer has no actions of the robot's joints")
    return ActionChunk(actions, observation.instruction, observation.stamp_ns, seconds)


def _checked(answer: Message) -> dict[str, Any]:
    content, _ = answer
    if isinstance(content.get("error"), str):
        raise PolicyError(content["error"])
    return content
