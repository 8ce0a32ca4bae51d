"""Precision presets of the ttnn backend: dtypes of weights and math fidelities, part by part."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PartPrecision:
    """Precision of one part of the model.

    Attributes:
        weights: dtype of the weights of linear layers, by its name in ttnn.
        fidelity: math fidelity of linear layers: LoFi, HiFi2, HiFi3 or HiFi4.
        attention: math fidelity of attention, which loses accuracy first.
    """

    weights: str
    fidelity: str
    attention: str


@dataclass(frozen=True)
class Precision:
    """Precision of the whole model.

    Activations and the KV cache are bfloat16, the flow's state x_t is float32, and sums are float32 everywhere.

    Attributes:
        vision: vision tower and projector.
        prefix: Gemma of the prefix.
        expert: Gemma of the action expert.
        suffix: projections into and out of the expert.
    """

    vision: PartPrecision
    prefix: PartPrecision
    expert: PartPrecision
    suffix: PartPrecision


# Expert and suffix are limited by reading their weights: a higher fidelity costs no time there.
PRESETS = {
    "accuracy": Precision(*[PartPrecision("bfloat16", "HiFi4", "HiFi4")] * 4),
    "default": Precision(
        vision=PartPrecision("bfloat8_b", "HiFi2", "HiFi2"),
        prefix=PartPrecision("bfloat8_b", "HiFi2", "HiFi2"),
        expert=PartPrecision("bfloat8_b", "HiFi4", "HiFi2"),
        suffix=PartPrecision("bfloat16", "HiFi4", "HiFi4"),
    ),
    "fast": Precision(
        vision=PartPrecision("bfloat8_b", "LoFi", "HiFi2"),
        prefix=PartPrecision("bfloat8_b", "LoFi", "HiFi2"),
        expert=PartPrecision("bfloat8_b", "HiFi2", "HiFi2"),
        suffix=PartPrecision("bfloat16", "HiFi4", "HiFi4"),
    ),
}

PRECISIONS = tuple(PRESETS)
