"""Flow matching in TTNN: Euler steps on the device, unrolled. Compare `reference/denoise.py`."""

from __future__ import annotations

from collections.abc import Callable

import ttnn

from pi0_ttnn_core.tt.common import Tensor


def denoise(displacements: Callable[[Tensor, int], list[Tensor]], noise: Tensor, num_steps: int) -> Tensor:
    """Integrate from the noise to the actions.

    Args:
        displacements: maps x, float32, and the number of the step to what the step adds, bfloat16, in parts.
        noise: float32 [1, 1, batch * suffix, action_dim].
    Returns:
        float32, of the same shape. Rounding x to bfloat16 at every step would cost more than all else does.
    """
    x = noise
    for step in range(num_steps):
        for displacement in displacements(x, step):
            x = ttnn.add(x, displacement, dtype=ttnn.float32)
    return x
