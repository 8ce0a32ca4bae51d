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
from pi0_ttnn_core.validation.harness import TOWER, Harness, download, normal


def patch_embedding(harness: Harness) -> Pair:
    """Compare the embedded patches of all images."""
    vision = replace(harness.config.vision, depth=0)
    reference = harness.reference(lambda: siglip.SigLIPVisionTowerTorch(vision), f"{TOWER}.")
    images = torch.from_numpy(harness.inputs.images)[0]
    device = SigLIPVisionTowerTTNN(vision, harness.weights("vision", TOWER))
    return Pair(reference.embed_patches(images), download(device.embed_patches(harness.device_inputs.images))[:, 0])


def siglip_component(name: str, torch_class: type[nn.Module], ttnn_class: Callable, residual: bool = False) -> Callable:
    """Return the comparison of a part of the first block, on one image."""

    def compare(harness: Harness) -> Pair:
        vision, full_name = harness.config.vision, f"{TOWER}.layers.0{name}"
        hidden = normal(vision.num_patches, vision.width)
        expected = harness.reference(lambda: torch_class(vision), f"{full_name}.")(hidden[None])[0]
        actual = download(ttnn_class(vision, harness.weights("vision", full_name))(harness.upload(hidden)))[0, 0]
        return Pair(expected, actual, hidden if residual else None)

    return compare


def siglip_tower(harness: Harness) -> Pair:
    """Compare the features of all images."""
    vision = harness.config.vision
    reference = harness.reference(lambda: siglip.SigLIPVisionTowerTorch(vision), f"{TOWER}.")
    device = SigLIPVisionTowerTTNN(vision, harness.weights("vision", TOWER))
    expected = reference(torch.from_numpy(harness.inputs.images)[0])
    return Pair(expected, download(device(harness.device_inputs.images))[:, 0])


def projector(harness: Harness) -> Pair:
    """Compare the projection of features to the prefix's width."""
    config, name = harness.config, "prefix_embedding.projector"
    features = normal(config.vision.num_patches, config.vision.width)
    reference = harness.reference(lambda: nn.Linear(config.vision.width, config.prefix.width), f"{name}.")
    device = harness.weights("vision", "prefix_embedding").linear("projector")
    return Pair(reference(features), download(device(harness.upload(features)))[0, 0])


def prefix_embedding(harness: Harness) -> Pair:
    """Compare the prefix embedding without the tower's blocks, which are compared on their own."""
    config = replace(harness.config, vision=replace(harness.config.vision, depth=0))
    inputs, on_device = harness.inputs, harness.device_inputs
    reference = harness.reference(lambda: PrefixEmbeddingTorch(config), "prefix_embedding.")
    expected = reference.embed_prefix(torch.from_numpy(inputs.images), torch.from_numpy(inputs.tokens))[0]
    device = PrefixEmbeddingTTNN(
        config, harness.weights("vision", "prefix_embedding"), harness.weights("prefix", "prefix_embedding")
    )
    actual = download(device.embed_prefix(on_device.images, on_device.tokens))[0, 0]
    return Pair(expected, actual[: len(expected)])
