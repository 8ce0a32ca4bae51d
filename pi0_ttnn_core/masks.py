"""Who attends to whom, and at which position: the one place that knows.

A token attends to the valid tokens whose block number is not above its own. Blocks: all images and the prompt 0, the
state (PI0's only) 1, the actions 2; padding is seen by nobody (openpi models/pi0.py, `make_attn_mask`).
"""

from __future__ import annotations

import torch
from torch import Tensor

# The peers' value for a masked logit (openpi models/gemma.py). Finite, so that a row of padding stays finite.
MASKED_LOGIT = -2.3819763e38


def prefix_pad_mask(image_masks: Tensor, token_mask: Tensor, num_patches: int) -> Tensor:
    """Return which prefix tokens are valid.

    Args:
        image_masks: bool [batch, cameras].
        token_mask: bool [batch, tokens].
        num_patches: tokens of one image.
    Returns:
        bool [batch, cameras * num_patches + tokens].
    """
    return torch.cat([image_masks.repeat_interleave(num_patches, dim=1), token_mask], dim=1)


def prefix_attention(pad_mask: Tensor) -> Tensor:
    """Return the additive mask of the prefix, float32 [batch, 1, prefix, prefix]: everyone sees all valid tokens."""
    return _additive(pad_mask[:, None, :] & pad_mask[:, :, None])


def suffix_attention(pad_mask: Tensor, state_tokens: int, horizon: int) -> Tensor:
    """Return the additive mask of the suffix (state tokens, then actions) on the prefix and itself.

    Args:
        pad_mask: bool [batch, prefix], valid prefix tokens.
        state_tokens: number of tokens before the actions.
        horizon: number of action tokens.
    Returns:
        float32 [batch, 1, suffix, prefix + suffix].
    """
    batch, suffix = pad_mask.shape[0], state_tokens + horizon
    block = torch.tensor([1] * state_tokens + [2] * horizon, device=pad_mask.device)
    among_suffix = (block[None, :] <= block[:, None]).expand(batch, suffix, suffix)
    on_prefix = pad_mask[:, None, :].expand(batch, suffix, pad_mask.shape[1])
    return _additive(torch.cat([on_prefix, among_suffix], dim=2))


def prefix_positions(pad_mask: Tensor) -> Tensor:
    """Return int64 [batch, prefix]: valid tokens count from 0; padding repeats the position before it."""
    return torch.cumsum(pad_mask, dim=1) - 1


def suffix_positions(pad_mask: Tensor, suffix: int) -> Tensor:
    """Return int64 [batch, suffix]: the suffix goes on where the valid prefix tokens end."""
    return pad_mask.sum(dim=1, keepdim=True) + torch.arange(suffix, device=pad_mask.device)


def _additive(attends: Tensor) -> Tensor:
    return torch.where(attends, 0.0, MASKED_LOGIT)[:, None]
