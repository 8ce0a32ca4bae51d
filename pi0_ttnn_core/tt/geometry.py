"""Lengths of prefix and suffix in tiles, as the device lays them out."""

from __future__ import annotations

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.tt.common import tiles


def prefix_length(config: PI0Config) -> int:
    """Return the rows of one prefix on the device: image patches, tokens, padding."""
    return tiles(config.num_cameras * config.vision.num_patches + config.max_prompt_tokens)


def suffix_length(config: PI0Config) -> int:
    """Return the rows of one suffix on the device: actions, the state token if there is one, padding."""
    return tiles(config.action_horizon + config.num_state_tokens)
