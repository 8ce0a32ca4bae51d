"""The components of the flow: suffix, one Euler step, the actions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pi0_ttnn_core.reference.model import EncodedPrefix
from pi0_ttnn_core.reference.suffix import SuffixEmbeddingTorch
from pi0_ttnn_core.rtc import GuidanceTarget, soft_mask
from pi0_ttnn_core.tt.common import KV
from pi0_ttnn_core.tt.geometry import prefix_length, suffix_length
from pi0_ttnn_core.tt.suffix import SuffixEmbeddingTTNN
from pi0_ttnn_core.validation.comparison import Pair
from pi0_ttnn_core.validation.gemma import _placed, expert_case
from pi0_ttnn_core.validation.harness import STEP, Harness, download, normal


def suffix_embedding(harness: Harness) -> Pair:
    config, inputs, case = harness.config, harness.device_inputs, expert_case(harness)
    reference = harness.reference(lambda: SuffixEmbeddingTorch(config), "suffix_embedding.")
    state, noise = torch.from_numpy(harness.inputs.state), torch.from_numpy(harness.inputs.noise)
    expected, _ = reference.embed_suffix(state, noise, harness.time)
    device = SuffixEmbeddingTTNN(config, harness.weights("suffix", "suffix_embedding"), config.num_steps)
    embedded = None if inputs.state is None else device.embed_state(inputs.state)
    return case.pair(expected, device.embed_suffix(embedded, inputs.noise, inputs.action_rows, STEP))


def output_projection(harness: Harness) -> Pair:
    """Compare the velocity: the device's result is what an Euler step adds to the actions."""
    config, case = harness.config, expert_case(harness)
    reference = harness.reference(lambda: SuffixEmbeddingTorch(config), "suffix_embedding.")
    expected = reference.project_output(case.hidden[None]) / -config.num_steps
    device = SuffixEmbeddingTTNN(config, harness.weights("suffix", "suffix_embedding"), config.num_steps)
    return case.pair(expected, device.project_output(case.upload(case.hidden)))


def expert_step(harness: Harness) -> Pair:
    """Compare what one Euler step adds, on the reference's KV cache: the prefix's own error is not in it."""
    on_device, (_, device) = harness.device_inputs, harness.models
    prefix, displacement = _reference_displacement(harness)
    expected = displacement(torch.from_numpy(harness.inputs.noise))
    cache, state = _cache_of(harness, prefix), device.embed_state(on_device)
    actual = download(device.displacement(cache, state, on_device, on_device.noise, STEP))
    return Pair(expected[0], actual[0, 0, : harness.config.action_horizon])


def expert_step_vjp(harness: Harness) -> Pair:
    """Compare the gradient of the noisy actions, given a random one of what an Euler step adds to them."""
    config, on_device, (_, device) = harness.config, harness.device_inputs, harness.models
    prefix, displacement = _reference_displacement(harness)
    grad = normal(1 + config.action_horizon, config.action_dim)[1:]
    with torch.enable_grad():
        noise = torch.from_numpy(harness.inputs.noise).requires_grad_()
        (expected,) = torch.autograd.grad(displacement(noise), noise, grad[None])
    cache, state, inverse_rotary = (
        _cache_of(harness, prefix),
        device.embed_state(on_device),
        device.inverse_rotary(on_device),
    )
    _, pull = device.differentiable_displacement(cache, state, on_device, inverse_rotary, on_device.noise, STEP)
    actual = download(pull(harness.upload(_placed(grad, torch.arange(config.action_horizon), suffix_length(config)))))
    return Pair(expected[0], actual[0, 0, : config.action_horizon])


def _reference_displacement(harness: Harness) -> tuple[EncodedPrefix, Callable[[Tensor], Tensor]]:
    """Return the reference's prefix, and what Euler step STEP adds to actions there."""
    inputs, (reference, _) = harness.inputs, harness.models
    tensors = {name: torch.from_numpy(array) for name, array in vars(inputs).items()}
    prefix = reference.encode_prefix(*(tensors[name] for name in ("images", "image_masks", "tokens", "token_mask")))
    return prefix, lambda actions: (
        reference.velocity(prefix, tensors["state"], actions, harness.time) / -harness.config.num_steps
    )


def _cache_of(harness: Harness, prefix: EncodedPrefix) -> list[KV]:
    """Return the reference's KV cache on the device, which has a place for padding, too."""
    place = harness.pad_mask[0].nonzero()[:, 0]
    length = prefix_length(harness.config) + suffix_length(harness.config)
    key_values = [[harness.upload(_placed(x[0], place, length)) for x in kv] for kv in prefix.cache]
    return [(key, value) for key, value in key_values]


def actions(harness: Harness) -> Pair:
    config, inputs = harness.config, harness.inputs
    reference, device = harness.models
    tensors = {name: torch.from_numpy(array) for name, array in vars(inputs).items()}
    expected = reference.sample_actions(**tensors, num_steps=config.num_steps)
    actual = download(device.sample_actions(harness.device_inputs, device.allocate_cache(batch=1)))
    return Pair(expected[0], actual[0, 0, : config.action_horizon], tensors["noise"][0])


def guided_actions(harness: Harness) -> Pair:
    """Compare actions that agree with earlier ones in half of their values, in a fifth of the chunk to the full."""
    config, (reference, device) = harness.config, harness.models
    actions = normal(config.action_horizon, config.action_dim // 2)[None].numpy()
    target = GuidanceTarget(
        actions, soft_mask(config.action_horizon, config.action_horizon // 5, config.action_horizon // 2)
    )
    tensors = {name: torch.from_numpy(array) for name, array in vars(harness.inputs).items()}
    guidance = {"target_actions": torch.from_numpy(target.actions), "guidance_mask": torch.from_numpy(target.weights)}
    expected = reference.sample_actions(**tensors, num_steps=config.num_steps, **guidance)
    actual = download(device.sample_actions(harness.upload_inputs(target), device.allocate_cache(batch=1)))
    return Pair(expected[0], actual[0, 0, : config.action_horizon], tensors["noise"][0])
