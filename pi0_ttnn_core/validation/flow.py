"""The components of the flow: suffix, Euler step, actions."""

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
from pi0_ttnn_core.validation.gemma import expert_case
from pi0_ttnn_core.validation.harness import STEP, Harness, download, normal, scatter_rows


def suffix_embedding(harness: Harness) -> Pair:
    """Compare the expert's input at Euler step STEP."""
    config, inputs, case = harness.config, harness.device_inputs, expert_case(harness)
    reference = harness.reference(lambda: SuffixEmbeddingTorch(config), "suffix_embedding.")
    state, noise = torch.from_numpy(harness.inputs.state), torch.from_numpy(harness.inputs.noise)
    expected, _ = reference.embed_suffix(state, noise, harness.time)
    device = SuffixEmbeddingTTNN(config, harness.weights("suffix", "suffix_embedding"), config.num_steps)
    embedded = None if inputs.state is None else device.embed_state(inputs.state)
    return case.pair(expected, device.embed_suffix(embedded, inputs.noise, inputs.action_rows, STEP))


def output_projection(harness: Harness) -> Pair:
    """Compare dt * v_t, which is what the device computes."""
    config, case = harness.config, expert_case(harness)
    reference = harness.reference(lambda: SuffixEmbeddingTorch(config), "suffix_embedding.")
    expected = reference.project_output(case.hidden[None]) / -config.num_steps
    device = SuffixEmbeddingTTNN(config, harness.weights("suffix", "suffix_embedding"), config.num_steps)
    return case.pair(expected, device.project_output(case.upload(case.hidden)))


def expert_step(harness: Harness) -> Pair:
    """Compare dt * v_t of one Euler step on the reference's KV cache, to leave out the prefix's error."""
    on_device, (_, device) = harness.device_inputs, harness.models
    prefix, displacement = _reference_displacement(harness)
    expected = displacement(torch.from_numpy(harness.inputs.noise))
    cache, state = _device_cache(harness, prefix), device.embed_state(on_device)
    actual = download(device.displacement(cache, state, on_device, on_device.noise, STEP))
    return Pair(expected[0], actual[0, 0, : harness.config.action_horizon])


def expert_step_vjp(harness: Harness) -> Pair:
    """Compare the gradient of x_t, given a random gradient of dt * v_t."""
    config, on_device, (_, device) = harness.config, harness.device_inputs, harness.models
    prefix, displacement = _reference_displacement(harness)
    grad = normal(1 + config.action_horizon, config.action_dim)[1:]
    with torch.enable_grad():
        noise = torch.from_numpy(harness.inputs.noise).requires_grad_()
        (expected,) = torch.autograd.grad(displacement(noise), noise, grad[None])
    cache, state, inverse_rotary = (
        _device_cache(harness, prefix),
        device.embed_state(on_device),
        device.inverse_rotary(on_device),
    )
    _, vjp = device.differentiable_displacement(cache, state, on_device, inverse_rotary, on_device.noise, STEP)
    actual = download(
        vjp(harness.upload(scatter_rows(grad, torch.arange(config.action_horizon), suffix_length(config))))
    )
    return Pair(expected[0], actual[0, 0, : config.action_horizon])


def _reference_displacement(harness: Harness) -> tuple[EncodedPrefix, Callable[[Tensor], Tensor]]:
    """Return the reference's prefix, and its map from x_t to dt * v_t at Euler step STEP."""
    inputs, (reference, _) = harness.inputs, harness.models
    tensors = {name: torch.from_numpy(array) for name, array in vars(inputs).items()}
    prefix = reference.encode_prefix(*(tensors[name] for name in ("images", "image_masks", "tokens", "token_mask")))
    return prefix, lambda x_t: (
        reference.velocity(prefix, tensors["state"], x_t, harness.time) / -harness.config.num_steps
    )


def _device_cache(harness: Harness, prefix: EncodedPrefix) -> list[KV]:
    """Return the reference's KV cache on the device, where padding has rows too."""
    indices = harness.pad_mask[0].nonzero()[:, 0]
    length = prefix_length(harness.config) + suffix_length(harness.config)
    key_values = [[harness.upload(scatter_rows(x[0], indices, length)) for x in kv] for kv in prefix.cache]
    return [(key, value) for key, value in key_values]


def actions(harness: Harness) -> Pair:
    """Compare the actions of a whole inference."""
    config, inputs = harness.config, harness.inputs
    reference, device = harness.models
    tensors = {name: torch.from_numpy(array) for name, array in vars(inputs).items()}
    expected = reference.sample_actions(**tensors, num_steps=config.num_steps)
    actual = download(device.sample_actions(harness.device_inputs, device.allocate_cache(batch=1)))
    return Pair(expected[0], actual[0, 0, : config.action_horizon], tensors["noise"][0])


def guided_actions(harness: Harness) -> Pair:
    """Compare guided actions. The target has half of their values; a fifth of the chunk is frozen."""
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
