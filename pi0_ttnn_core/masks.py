"""Attention masks and position ids of prefix and suffix.

A token attends to the valid tokens whose block number is not greater than its own (openpi models/pi0.py,
`make_attn_mask`). Blocks: images and prompt 0, PI0's state token 1, actions 2. For three prefix tokens, the state and
three actions:

    block     0 0 0 | 1 | 2 2 2

    prefix    1 1 1   0   0 0 0
              1 1 1   0   0 0 0
              1 1 1   0   0 0 0
    state     1 1 1   1   0 0 0
    actions   1 1 1   1   1 1 1
              1 1 1   1   1 1 1
              1 1 1   1   1 1 1

Rows are queries, columns keys. The first three rows are `prefix_attention`, over the first three columns only, and the
last four `suffix_attention`. The column of a padding token is 0 everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The value of a masked logit in openpi (models/gemma.py) and LeRobot. It is finite so that the softmax of a row that is
# masked entirely, which padding has, is finite too.
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
    """Return the additive mask of the prefix, float32 [batch, 1, prefix, prefix]: valid tokens attend to each other."""
    return _additive(pad_mask[:, None, :] & pad_mask[:, :, None])


def suffix_attention(pad_mask: Tensor, state_tokens: int, horizon: int) -> Tensor:
    """Return the additive mask of the suffix (state tokens, then actions) over the prefix and itself.

    Args:
        pad_mask: bool [batch, prefix]. Valid prefix tokens.
        state_tokens: number of tokens before the actions.
        horizon: number of action tokens.

    Returns:
        float32 [batch, 1, suffix, prefix + suffix].
    """
    batch, suffix = pad_mask.shape[0], state_tokens + horizon
    block = torch.tensor([1] * state_tokens + [2] * horizon, device=pad_mask.device)
    to_suffix = (block[None, :] <= block[:, None]).expand(batch, suffix, suffix)
    to_prefix = pad_mask[:, None, :].expand(batch, suffix, pad_mask.shape[1])
    return _additive(torch.cat([to_prefix, to_suffix], dim=2))


def prefix_positions(pad_mask: Tensor) -> Tensor:
    """Return positions, int64 [batch, prefix]: valid tokens count from 0; padding repeats the position before it."""
    return torch.cumsum(pad_mask, dim=1) - 1


def suffix_positions(pad_mask: Tensor, suffix: int) -> Tensor:
    """Return positions, int64 [batch, suffix], which continue after the valid prefix tokens."""
    return pad_mask.sum(dim=1, keepdim=True) + torch.arange(suffix, device=pad_mask.device)


def _additive(allowed: Tensor) -> Tensor:
    return torch.where(allowed, 0.0, MASKED_LOGIT)[:, None]
