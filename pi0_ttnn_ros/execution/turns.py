"""Joints that turn without end: measured and predicted positions jump by a turn, commanded ones must not."""

from __future__ import annotations

import numpy as np

TURN = 2 * np.pi


def nearest_turn(positions: np.ndarray, reference: np.ndarray, continuous: np.ndarray) -> np.ndarray:
    """Return `positions` [joints], those of `continuous` joints in the turn nearest to `reference` [joints]; rad."""
    return np.where(continuous, positions - TURN * np.round((positions - reference) / TURN), positions)


def unwrapped(actions: np.ndarray, continuous: np.ndarray) -> np.ndarray:
    """Return actions [points, joints] without jumps by a turn of `continuous` joints from point to point; rad."""
    return np.where(continuous, np.unwrap(actions, axis=0), actions)
