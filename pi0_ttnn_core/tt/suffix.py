"""The suffix in TTNN: state, noisy actions x_t and time, embedded for the action expert. Compare `reference/suffix.py`.

On the device the actions come first, then the state token, then padding to whole tiles: then the actions begin at a
tile, and attention depends only on positions and mask, not on the order of rows. The time takes few values, so what
depends on it alone is computed once, when the model is loaded.
"""

from __future__ import annotations

import ttnn

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.tt.common import SILU, Linear, Tensor
from pi0_ttnn_core.tt.kernels.expert_linear import ExpertLinear
from pi0_ttnn_core.tt.weights.conversion import Weights
from pi0_ttnn_core.tt.weights.suffix_weights import SuffixWeightsTTNN, convert_suffix_weights_to_ttnn


class SuffixEmbeddingTTNN:
    """Projections into and out of the action expert."""

    def __init__(self, config: PI0Config, weights: Weights, num_steps: int) -> None:
        self.config = config
        self.weights: SuffixWeightsTTNN = convert_suffix_weights_to_ttnn(config, weights, num_steps)

    @property
    def conditions(self) -> list | None:
        """The condition of PI0.5's adaptive norms at each Euler step, torch float32 [width]."""
        return self.weights.conditions

    def embed_state(self, state: Tensor) -> Tensor:
        """Map state rows (the state, and a 1 for the bias) to [1, 1, batch * suffix, width]. PI0 only."""
        assert self.weights.state_proj is not None
        return self.weights.state_proj(state)

    def embed_actions(self, actions: Tensor) -> Tensor:
        """Map noisy actions, float32 [1, 1, batch * suffix, action_dim], to the expert's width. PI0.5 only."""
        return self.weights.action_in(actions)

    def embed_timestep(self, step: int) -> Tensor:
        """Return what the time of Euler step `step` adds in PI0's fusing layer, [1, width]: time branch and biases."""
        return self.weights.time_biases[step]

    def fuse_action_time(self, actions: Tensor, step: int) -> Tensor:
        """Fuse noisy actions and the time of a step; action_in_proj and the first layer of the MLP are one product."""
        hidden = self._fused(actions, step, SILU)
        assert self.weights.action_time_mlp_out is not None
        return self.weights.action_time_mlp_out(hidden)

    def embed_suffix(self, state: Tensor | None, actions: Tensor, action_rows: Tensor, step: int) -> Tensor:
        """Return the expert's input [1, 1, batch * suffix, width].

        `state` is the embedded state, None for PI0.5. `action_rows` is 1 in the rows of actions and 0 elsewhere.
        """
        if state is None:
            return self.embed_actions(actions)
        # Action rows come from the fused actions, the state's row from `state`; padding is zero in both.
        return ttnn.addcmul(state, self.fuse_action_time(actions, step), action_rows)

    def project_output(self, hidden: Tensor) -> Tensor:
        """Map the expert's output to the displacement of an Euler step, dt * v_t."""
        return self.weights.action_out(hidden)

    def output_vjp(self, grad: Tensor) -> Tensor:
        """Return the gradient of the input of `project_output`, given that of its result."""
        return _transposed(self.weights.action_out, grad)

    def suffix_vjp(self, actions: Tensor, action_rows: Tensor | None, step: int, grad: Tensor) -> Tensor:
        """Return the gradient of the actions of `embed_suffix`, bfloat16, given that of its result."""
        if self.weights.action_time_mlp_out is not None:
            assert action_rows is not None
            grad = _transposed(self.weights.action_time_mlp_out, ttnn.mul(grad, action_rows))
            (grad,) = ttnn.silu_bw(grad, self._fused(actions, step, None))
        return _transposed(self.weights.action_in, grad)

    def _fused(self, actions: Tensor, step: int, activation: ttnn.UnaryWithParam | None) -> Tensor:
        fuse = self.weights.action_in
        return Linear(fuse.weight, self.embed_timestep(step), fuse.config, activation)(actions)


def _transposed(linear: Linear, x: Tensor) -> Tensor:
    return ExpertLinear(linear.weight, linear.config.math_fidelity).transposed(x)
