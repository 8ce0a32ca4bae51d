"""The suffix's weights for the device. Consecutive linear maps are folded, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import ttnn
from torch import Tensor
from torch.nn import functional as F

from pi0_ttnn_core.configs import PI0Config
from pi0_ttnn_core.reference.suffix import create_sinusoidal_pos_embedding_torch
from pi0_ttnn_core.tt.common import Linear
from pi0_ttnn_core.tt.weights.conversion import Weights


@dataclass(frozen=True)
class SuffixWeightsTTNN:
    """The weights of `SuffixEmbeddingTTNN`.

    Attributes:
        action_in: PI0.5: action_in_proj. PI0: action_in_proj and the actions' half of action_time_mlp_in, without bias.
        action_out: action_out_proj times dt = -1 / num_steps.
        time_biases: [1, width], one per Euler step: the time's half of action_time_mlp_in, and all biases. PI0 only.
        action_time_mlp_out: action_time_mlp_out. PI0 only.
        state_proj: state_proj, with its bias as one more column of the weight. PI0 only.
        conditions: torch float32 [width], one per Euler step: the condition of adaptive norms. PI0.5 only.
    """

    action_in: Linear
    action_out: Linear
    time_biases: list[ttnn.Tensor]
    action_time_mlp_out: Linear | None = None
    state_proj: Linear | None = None
    conditions: list[Tensor] | None = None


def create_sinusoidal_pos_embedding_ttnn(config: PI0Config, num_steps: int) -> Tensor:
    """Return the embedded times of all Euler steps, torch float64 [num_steps, width]: only loading needs them."""
    time = 1.0 - torch.arange(num_steps, dtype=torch.float64) / num_steps
    return create_sinusoidal_pos_embedding_torch(time, config.expert.width, config.min_period, config.max_period)


def convert_suffix_weights_to_ttnn(config: PI0Config, weights: Weights, num_steps: int) -> SuffixWeightsTTNN:
    """Return the weights of `SuffixEmbeddingTTNN` on the device."""

    def double(name: str) -> tuple[Tensor, Tensor]:
        return weights.tensor(f"{name}.weight").double(), weights.tensor(f"{name}.bias").double()

    def linear(name: str, weight: Tensor, bias: Tensor | None) -> Linear:
        return weights.linear_from(name, weight.float, None if bias is None else bias.float)

    times = create_sinusoidal_pos_embedding_ttnn(config, num_steps)
    action_weight, action_bias = double("action_in_proj")
    out_weight, out_bias = double("action_out_proj")
    action_out = linear("action_out", out_weight / -num_steps, out_bias / -num_steps)
    if config.pi05:
        (in_weight, in_bias), (mlp_weight, mlp_bias) = double("time_mlp_in"), double("time_mlp_out")
        conditions = F.silu(F.linear(F.silu(F.linear(times, in_weight, in_bias)), mlp_weight, mlp_bias))
        return SuffixWeightsTTNN(
            action_in=linear("action_in", action_weight, action_bias),
            action_out=action_out,
            time_biases=[],
            conditions=list(conditions.float()),
        )
    fuse_weight, fuse_bias = double("action_time_mlp_in")
    on_actions, on_time = fuse_weight.chunk(2, dim=1)
    biases = F.linear(times, on_time, fuse_bias + on_actions @ action_bias)
    state_weight, state_bias = double("state_proj")
    return SuffixWeightsTTNN(
        action_in=linear("action_in", on_actions @ action_weight, None),
        action_out=action_out,
        time_biases=[weights.to_device(f"time_bias.{step}", bias[None].float) for step, bias in enumerate(biases)],
        action_time_mlp_out=weights.linear("action_time_mlp_out"),
        # One column for the bias, so that only the state's row gets it: its input there is 1.
        state_proj=linear("state", torch.cat([state_weight, state_bias[:, None]], dim=1), None),
    )
