"""The components of the vision tower and of the prefix embedding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from pi0_ttnn_core.reference import siglip
from pi0_ttnn_core.reference.prefix import PrefixEmbeddingTorch
from pi0_ttnn_core.tt.prefix import PrefixEmbeddingTTNN
from pi0_ttnn_core.tt.siglip import SigLIPVisionTowerTTNN
from pi0_ttnn_core.validation.comparison import Pair
from pi0_ttnn_core.validation.harness import TOWER, Bench, download, normal


def patch_embedding(bench: Bench) -> Pair:
    vision = replace(bench.config.vision, depth=0)
    reference = bench.reference(lambda: siglip.SigLIPVisionTowerTorch(vision), f"{TOWER}.")
    images = torch.from_numpy(bench.inputs.images)[0]
    device = SigLIPVisionTowerTTNN(vision, bench.weights("vision", TOWER))
    return Pair(reference.embed_patches(images), download(device.embed_patches(bench.device_inputs.images))[:, 0])


def siglip_component(name: str, torch_class: type[nn.Module], ttnn_class: Callable, residual: bool = False) -> Callable:
    """Compare a part of the first block on one image."""

    def compare(bench: Bench) -> Pair:
        vision, full_name = bench.config.vision, f"{TOWER}.layers.0{name}"
        hidden = normal(vision.num_patches, vision.width)
        expected = bench.reference(lambda: torch_class(vision), f"{full_name}.")(hidden[None])[0]
        actual = download(ttnn_class(vision, bench.weights("vision", full_name))(bench.upload(hidden)))[0, 0]
        return Pair(expected, actual, hidden if residual else None)

    return compare


def siglip_tower(bench: Bench) -> Pair:
    vision = bench.config.vision
    reference = bench.reference(lambda: siglip.SigLIPVisionTowerTorch(vision), f"{TOWER}.")
    device = SigLIPVisionTowerTTNN(vision, bench.weights("vision", TOWER))
    expected = reference(torch.from_numpy(bench.inputs.images)[0])
    return Pair(expected, download(device(bench.device_inputs.images))[:, 0])


def projector(bench: Bench) -> Pair:
    config, name = bench.config, "prefix_embedding.projector"
    features = normal(config.vision.num_patches, config.vision.width)
    reference = bench.reference(lambda: nn.Linear(config.vision.width, config.prefix.width), f"{name}.")
    device = bench.weights("vision", "prefix_embedding").linear("projector")
    return Pair(reference(features), download(device(bench.upload(features)))[0, 0])


def prefix_embedding(bench: Bench) -> Pair:
    """Compare it without the tower's blocks, which have rows of their own."""
    config = replace(bench.config, vision=replace(bench.config.vision, depth=0))
    inputs, on_device = bench.inputs, bench.device_inputs
    reference = bench.reference(lambda: PrefixEmbeddingTorch(config), "prefix_embedding.")
    expected = reference.embed_prefix(torch.from_numpy(inputs.images), torch.from_numpy(inputs.tokens))[0]
    device = PrefixEmbeddingTTNN(
        config, bench.weights("vision", "prefix_embedding"), bench.weights("prefix", "prefix_embedding")
    )
    actual = download(device.embed_prefix(on_device.images, on_device.tokens))[0, 0]
    return Pair(expected, actual[: len(expected)])
