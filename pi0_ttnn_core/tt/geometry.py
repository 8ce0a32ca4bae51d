"""Rows of prefix and suffix on the device, padded to whole tiles."""

from __future__ import annotations

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.tt.common import tiles


def prefix_length(config: PI0Config) -> int:
    """Return the number of rows of one prefix on the device: image patches, prompt tokens, padding."""
    return tiles(config.num_cameras * config.vision.num_patches + config.max_prompt_tokens)


def suffix_length(config: PI0Config) -> int:
    """Return the number of rows of one suffix on the device: actions, PI0's state token, padding."""
    return tiles(config.action_horizon + config.num_state_tokens)
