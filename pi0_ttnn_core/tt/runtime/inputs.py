"""One batch of inputs in the layout of the device, on the host."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pi0_ttnn_core import masks
from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.model_inputs import ModelInputs
from pi0_ttnn_core.reference.gemma import GemmaRotaryEmbeddingTorch
from pi0_ttnn_core.rtc import GuidanceTarget
from pi0_ttnn_core.tt.common import MASKED_LOGIT
from pi0_ttnn_core.tt.geometry import prefix_length, suffix_length
from pi0_ttnn_core.tt.model import Inputs

HostInputs = Inputs[Tensor]


def host_inputs(inputs: ModelInputs, config: PI0Config, target: GuidanceTarget | None = None) -> HostInputs:
    """Return checked inputs in the layout of the device.

    Args:
        inputs: with all camera slots and at most `max_prompt_tokens` tokens.
        config: sizes of the model.
        target: normalised, [batch, horizon, values].
    """
    batch, horizon = len(inputs.tokens), config.action_horizon
    prefix, suffix = prefix_length(config), suffix_length(config)
    image_tokens = config.num_cameras * config.vision.num_patches
    tokens, token_mask = np.zeros((2, batch, prefix - image_tokens), np.int32)
    tokens[:, : inputs.tokens.shape[1]] = inputs.tokens
    token_mask[:, : inputs.tokens.shape[1]] = inputs.token_mask
    pad_mask = masks.prefix_pad_mask(
        torch.from_numpy(inputs.image_masks), torch.from_numpy(token_mask).bool(), config.vision.num_patches
    )
    # On the device, the state token comes after the actions.
    length = config.num_state_tokens + horizon
    order = [*range(config.num_state_tokens, length), *range(config.num_state_tokens)]
    positions = torch.zeros(batch, suffix, dtype=torch.long)
    positions[:, :length] = masks.suffix_positions(pad_mask, length)[:, order]
    rotary = GemmaRotaryEmbeddingTorch(config.expert.head_dim)
    prefix_cos, prefix_sin = (_rows(table) for table in rotary.tables(masks.prefix_positions(pad_mask)))
    suffix_cos, suffix_sin = (_rows(table) for table in rotary.tables(positions))
    noise = torch.zeros(batch, suffix, config.action_dim)
    noise[:, :horizon] = torch.from_numpy(inputs.noise)
    return HostInputs(
        images=_pixel_rows(torch.from_numpy(inputs.images), config.vision.patch_size),
        tokens=torch.from_numpy(tokens),
        state=None if config.pi05 else _state_rows(torch.from_numpy(inputs.state), horizon, suffix),
        action_rows=None if config.pi05 else _action_rows(batch, config, suffix),
        noise=noise.flatten(0, 1)[None, None],
        prefix_mask=_prefix_mask(pad_mask),
        suffix_mask=_suffix_mask(pad_mask, config, order, suffix),
        prefix_cos=prefix_cos,
        prefix_sin=prefix_sin,
        suffix_cos=suffix_cos,
        suffix_sin=suffix_sin,
        **({} if target is None else _target_rows(target, batch, config)),
    )


def _target_rows(target: GuidanceTarget, batch: int, config: PI0Config) -> dict[str, Tensor]:
    actions, weights = torch.zeros(2, batch, suffix_length(config), config.action_dim)
    values = target.actions.shape[-1]
    actions[:, : config.action_horizon, :values] = torch.from_numpy(target.actions)
    weights[:, : config.action_horizon, :values] = torch.from_numpy(target.weights)[:, None]
    rounded = actions.bfloat16().float()
    rows = {"target_actions": rounded, "target_remainder": actions - rounded, "guidance_mask": weights}
    return {name: values.flatten(0, 1)[None, None] for name, values in rows.items()}


def _pixel_rows(images: Tensor, patch_size: int) -> Tensor:
    # [B, cameras, 3, size, size] -> [B * cameras, size, size, 3]
    channels_last = images.flatten(0, 1).permute(0, 2, 3, 1)
    # ... -> [B * cameras, size, size / patch, patch * 3]
    return channels_last.unflatten(2, (-1, patch_size)).flatten(3).contiguous()


def _rows(table: Tensor) -> Tensor:
    # [B, 1, rows, D] -> [1, 1, B * rows, D]
    return table.flatten(0, 2)[None, None]


def _state_rows(state: Tensor, horizon: int, suffix: int) -> Tensor:
    batch, size = state.shape
    rows = torch.zeros(batch, suffix, size + 1)
    rows[:, horizon, :size] = state
    rows[:, horizon, size] = 1.0
    return rows.flatten(0, 1)[None, None]


def _action_rows(batch: int, config: PI0Config, suffix: int) -> Tensor:
    rows = torch.zeros(batch, suffix, config.expert.width)
    rows[:, : config.action_horizon] = 1.0
    return rows.flatten(0, 1)[None, None]


def _block_diagonal(allowed: Tensor) -> Tensor:
    """Map one mask per sequence, bool [batch, queries, keys], to one of all, bool [batch * queries, batch * keys]."""
    return torch.block_diag(*allowed.int()).bool()


def _additive(allowed: Tensor) -> Tensor:
    return torch.where(allowed, 0.0, MASKED_LOGIT)[None, None]


def _prefix_mask(pad_mask: Tensor) -> Tensor:
    return _additive(_block_diagonal(masks.prefix_attention(pad_mask)[:, 0] == 0.0))


def _suffix_mask(pad_mask: Tensor, config: PI0Config, order: list[int], suffix: int) -> Tensor:
    batch, prefix = pad_mask.shape
    allowed = masks.suffix_attention(pad_mask, config.num_state_tokens, config.action_horizon)[:, 0] == 0.0
    to_prefix, to_suffix = allowed[:, :, :prefix], allowed[:, :, prefix:]
    length = len(order)
    padded_to_prefix = torch.zeros(batch, suffix, prefix, dtype=torch.bool)
    padded_to_prefix[:, :length] = to_prefix[:, order]
    padded_to_suffix = torch.zeros(batch, suffix, suffix, dtype=torch.bool)
    padded_to_suffix[:, :length, :length] = to_suffix[:, order][:, :, order]
    return _additive(torch.cat([_block_diagonal(padded_to_prefix), _block_diagonal(padded_to_suffix)], dim=1))
