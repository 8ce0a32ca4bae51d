"""The policy: `Observation` in, `ActionChunk` out. It owns the processing pipeline and one backend."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from pi0_ttnn_core.backend import Backend
from pi0_ttnn_core.backend_factory import load_backend
from pi0_ttnn_core.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.policy_io import ActionChunk, Observation, ObservationError
from pi0_ttnn_core.processing.pipeline import ProcessingPipeline, build_pipeline
from pi0_ttnn_core.processing.robot import Robot
from pi0_ttnn_core.processing.transforms import decode_actions, encode_actions, encode_state, pad_vector
from pi0_ttnn_core.rtc import GuidanceTarget


class Policy:
    """A checkpoint on a backend.

    Attributes:
        checkpoint: the checkpoint.
        backend: runs the model.
        pipeline: converts between the robot's units and the model's.
        num_steps: Euler steps of an inference.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        backend: Backend,
        pipeline: ProcessingPipeline,
        num_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        self.checkpoint = checkpoint
        self.backend = backend
        self.pipeline = pipeline
        self.num_steps = num_steps or checkpoint.config.num_steps
        self._seed = seed

    @property
    def state_size(self) -> int:
        """Number of values in the robot's state."""
        return self.pipeline.state_size

    @property
    def action_size(self) -> int:
        """Number of values in one action."""
        return self.pipeline.action_size

    @property
    def action_horizon(self) -> int:
        """Number of actions in a chunk."""
        return self.checkpoint.config.action_horizon

    def infer(self, observation: Observation, target: GuidanceTarget | None = None) -> ActionChunk:
        """Return the actions for an observation, guided towards `target` if given, which is in the robot's units.

        Raises:
            ObservationError: an image or the state is missing, not finite, or of the wrong shape or dtype.
        """
        inputs = self.model_inputs(observation)
        start = time.perf_counter()
        normalized_target = None if target is None else self._normalized(target, observation.state)
        normalized = self.backend.sample_actions(inputs, self.num_steps, normalized_target)[0, :, : self.action_size]
        inference_time = time.perf_counter() - start
        actions = decode_actions(self.pipeline.transforms, normalized, observation.state)
        return ActionChunk(actions.astype(np.float32), observation.instruction, observation.stamp_ns, inference_time)

    def model_inputs(self, observation: Observation) -> ModelInputs:
        """Return the observation in the model's units, as a batch of one.

        Raises:
            ObservationError: as for `infer`.
        """
        config = self.checkpoint.config
        _check(observation, self.checkpoint.cameras, self.state_size)
        size = config.vision.image_size
        images = np.full((1, config.num_cameras, 3, size, size), -1.0, np.float32)
        image_masks = np.zeros((1, config.num_cameras), np.bool_)
        for slot, camera in enumerate(self.checkpoint.cameras):
            if camera in observation.images:
                images[0, slot] = self.pipeline.resize(observation.images[camera], size)
                image_masks[0, slot] = True
        state = encode_state(self.pipeline.transforms, observation.state)
        tokens, token_mask = self.pipeline.tokenizer.encode(observation.instruction, state)
        return ModelInputs(
            images=images,
            image_masks=image_masks,
            tokens=tokens[None],
            token_mask=token_mask[None],
            state=pad_vector(state.astype(np.float32), config.action_dim)[None],
            noise=self._noise(observation.stamp_ns)[None],
        )

    def _normalized(self, target: GuidanceTarget, state: np.ndarray) -> GuidanceTarget:
        """Return the target in the model's units, as a batch of one."""
        actions = encode_actions(self.pipeline.transforms, target.actions, state)
        return GuidanceTarget(actions.astype(np.float32)[None], target.weights)

    def _noise(self, stamp_ns: int) -> np.ndarray:
        """Return the noise of one inference, a function of seed and stamp: a replayed bag gives the same chunks."""
        shape = (self.action_horizon, self.checkpoint.config.action_dim)
        return np.random.default_rng([self._seed, stamp_ns]).standard_normal(shape, np.float32)


def load_policy(
    folder: Path | str,
    backend: str,
    robot: Robot | None = None,
    dtype: str = "float32",
    precision: str = "default",
    num_steps: int | None = None,
    seed: int = 0,
    with_guidance: bool = False,
    device_id: str = "",
) -> Policy:
    """Load a checkpoint folder onto a backend.

    Errors that can be found without the weights are raised before they are read.

    Args:
        folder: holds config.json and the weights.
        backend: "torch" or "ttnn".
        robot: the robot to control. None: the robot of the training data.
        dtype: dtype of weights and activations on the torch backend.
        precision: preset of dtypes and math fidelities on the ttnn backend.
        num_steps: Euler steps of an inference. None: the checkpoint's.
        seed: seed of the flow noise.
        with_guidance: whether `Policy.infer` will be given targets.
        device_id: which of several cards on the ttnn backend, see `select_wormhole`.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        RobotError: the robot does not fit the checkpoint.
        TokenizerError: there is no usable tokenizer.
        BackendError: an option is unknown or the device cannot be used.
    """
    checkpoint = open_checkpoint(folder, robot.normalization_key if robot else "")
    pipeline = build_pipeline(checkpoint, robot)
    loaded = load_backend(backend, checkpoint, dtype, precision, num_steps, with_guidance, device_id)
    return Policy(checkpoint, loaded, pipeline, num_steps, seed)


def _check(observation: Observation, cameras: tuple[str, ...], state_size: int) -> None:
    unknown = [name for name in observation.images if name not in cameras]
    if unknown:
        raise ObservationError(f"unknown cameras {unknown}: the checkpoint was trained with {list(cameras)}")
    if not observation.images:
        raise ObservationError(f"no camera image: the checkpoint was trained with {list(cameras)}")
    for name, image in observation.images.items():
        if image.dtype not in (np.uint8, np.float32) or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ObservationError(
                f"image of camera {name!r} must be uint8 or float32 [height, width, 3], "
                f"not {image.dtype} {list(image.shape)}"
            )
        # In this form, NaN is rejected too.
        if image.dtype == np.float32 and not (image.min() >= 0.0 and image.max() <= 1.0):
            raise ObservationError(f"image of camera {name!r} has values outside [0, 1], the range of float32 images")
    if observation.state.shape != (state_size,):
        raise ObservationError(
            f"state has shape {list(observation.state.shape)}, the checkpoint expects [{state_size}]"
        )
    if not np.isfinite(observation.state).all():
        raise ObservationError(f"state has values that are not finite: {observation.state.tolist()}")
