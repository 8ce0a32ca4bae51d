"""Flow matching in TTNN: Euler steps on the device, unrolled. Compare `reference/denoise.py`."""

from __future__ import annotations

from collections.abc import Callable

import ttnn

from pi0_ttnn_core.tt.common import Tensor


def denoise(displacements: Callable[[Tensor, int], list[Tensor]], noise: Tensor, num_steps: int) -> Tensor:
    """Integrate from the noise to the actions.

    x_t stays in float32: rounding it to bfloat16 at every step would lose more accuracy than everything else does.

    Args:
        displacements: maps x_t, float32, and the number of the Euler step to dt * v_t, a list of bfloat16 summands.
        noise: float32 [1, 1, batch * suffix, action_dim].
        num_steps: number of Euler steps.

    Returns:
        float32, of the shape of `noise`.
    """
    x_t = noise
    for step in range(num_steps):
        for displacement in displacements(x_t, step):
            x_t = ttnn.add(x_t, displacement, dtype=ttnn.float32)
    return x_t
