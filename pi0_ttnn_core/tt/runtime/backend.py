"""The TTNN model as a backend."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
import ttnn

from pi0_ttnn_core.backend import BackendError, DeviceLost
from pi0_ttnn_core.checkpoints.checkpoint import Checkpoint
from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.precision import PRESETS, Precision
from pi0_ttnn_core.rtc import GuidanceTarget, unguided_target
from pi0_ttnn_core.tt.common import TILE
from pi0_ttnn_core.tt.geometry import suffix_length
from pi0_ttnn_core.tt.model import PI0ModelTTNN
from pi0_ttnn_core.tt.runtime.device import can_trace, open_device
from pi0_ttnn_core.tt.runtime.inputs import host_inputs
from pi0_ttnn_core.tt.runtime.session import Session
from pi0_ttnn_core.tt.weights.cache import WeightCache, cache_key
from pi0_ttnn_core.tt.weights.conversion import WeightSource
from pi0_ttnn_core.ttnn_output import error_reason, is_hang, ttnn_output_logged
from pi0_ttnn_core.wormhole import cache_root


class TTNNBackend:
    """The TTNN model with a checkpoint's weights on a Wormhole; see `Backend`."""

    name = "ttnn"

    def __init__(
        self,
        checkpoint: Checkpoint,
        device_name: str,
        precision: str,
        num_steps: int,
        with_guidance: bool = False,
        traced: bool = True,
    ) -> None:
        """Open the device and load the weights.

        Args:
            checkpoint: the weights and the sizes of the model.
            device_name: the device, in words.
            precision: one of PRECISIONS.
            num_steps: Euler steps of every inference.
            with_guidance: whether inferences are guided. All are then: without a target, its weights are zero.
            traced: capture one inference and replay it; otherwise ops are dispatched one by one.

        Raises:
            BackendError: the device cannot be opened, or cannot run a model of these sizes.
        """
        self.config = checkpoint.config
        _check_sizes(self.config)
        self._with_guidance = with_guidance
        self._traced = traced and can_trace()
        self._session: Session | None = None
        self._batch = 0
        with ttnn_output_logged(f"loading the model onto {device_name}"):
            self._device = open_device(self.config, num_steps, with_guidance)
            try:
                grid = self._device.compute_with_storage_grid_size()
                self.device = f"{device_name}, {grid.x}x{grid.y} cores"
                self.model = self._load_model(checkpoint, PRESETS[precision], num_steps)
            except BaseException:
                ttnn.close_device(self._device)
                raise

    def _load_model(self, checkpoint: Checkpoint, precision: Precision, num_steps: int) -> PI0ModelTTNN:
        cache = WeightCache(cache_root() / cache_key(checkpoint.digest(), self.config, precision, num_steps))
        source = WeightSource(checkpoint.read_tensor, self._device, cache)
        model = PI0ModelTTNN(self.config, source, precision, num_steps)
        cache.close()
        return model

    def sample_actions(self, inputs: ModelInputs, num_steps: int, target: GuidanceTarget | None = None) -> np.ndarray:
        """Return normalised actions, float32 [batch, horizon, action_dim], guided towards `target` if given.

        Raises:
            DeviceLost: the device hangs.
            BackendError: the backend was loaded without guidance or for another number of steps, there are too many
                tokens, or the inference failed. The next inference starts in a new session.
        """
        if target is not None and not self._with_guidance:
            raise BackendError("backend ttnn was loaded without guidance: load it with with_guidance=True")
        if inputs.tokens.shape[1] > self.config.max_prompt_tokens:
            raise BackendError(
                f"{inputs.tokens.shape[1]} tokens, but the device is set up for {self.config.max_prompt_tokens}"
            )
        if num_steps != self.model.num_steps:
            raise BackendError(f"loaded for {self.model.num_steps} Euler steps, asked for {num_steps}")
        try:
            actions = self._run(inputs, target)
        except RuntimeError as error:
            if is_hang(error):
                self._session = None  # releasing its trace would wait for the device
                raise DeviceLost(f"the Wormhole hangs: {error_reason(error)}") from error
            self._end_session()
            raise BackendError(f"the inference failed on the device: {error_reason(error)}") from error
        rows = actions.reshape(self._batch, suffix_length(self.config), -1)
        return rows[:, : self.config.action_horizon, : self.config.action_dim].contiguous().numpy()

    def _run(self, inputs: ModelInputs, target: GuidanceTarget | None) -> torch.Tensor:
        is_first = self._session is None or self._batch != len(inputs.tokens)
        with ttnn_output_logged("compiling kernels, which takes minutes the first time") if is_first else nullcontext():
            self.upload(inputs, target)
            assert self._session is not None
            return self._session.run()

    def upload(self, inputs: ModelInputs, target: GuidanceTarget | None = None) -> None:
        """Start to upload the inputs of the next inference, without disturbing one that is running."""
        batch = len(inputs.tokens)
        if self._with_guidance and target is None:
            target = unguided_target(batch, self.config.action_horizon, self.config.action_dim)
        laid_out = host_inputs(pad_cameras(inputs, self.config.num_cameras), self.config, target)
        if self._session is None or self._batch != batch:
            # Only one session at a time: a trace owns the memory of its activations.
            self._end_session()
            self._session, self._batch = Session(self.model, laid_out, self._traced), batch
        self._session.upload(laid_out)

    def close(self) -> None:
        """Free the weights and the device. The backend cannot be used afterwards."""
        self._end_session()
        del self.model
        ttnn.close_device(self._device)

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


def _check_sizes(config: PI0Config) -> None:
    head_dim = config.prefix.head_dim
    if head_dim % (2 * TILE):
        raise BackendError(
            f"head_dim is {head_dim}, but the rotary embedding on the device requires a multiple of {2 * TILE}: "
            "run this model with backend torch"
        )


def pad_cameras(inputs: ModelInputs, num_cameras: int) -> ModelInputs:
    """Return the inputs with all camera slots; the added ones are empty and masked."""
    batch, cameras, *rest = inputs.images.shape
    images = np.full((batch, num_cameras, *rest), -1.0, np.float32)
    images[:, :cameras] = inputs.images
    image_masks = np.zeros((batch, num_cameras), np.bool_)
    image_masks[:, :cameras] = inputs.image_masks
    return ModelInputs(**{**vars(inputs), "images": images, "image_masks": image_masks})
