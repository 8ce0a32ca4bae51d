"""The reference model against Hugging Face's modules with the same weights, and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from pi0_ttnn_core import masks
from pi0_ttnn_core.backend_factory import load_backend
from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint
from pi0_ttnn_core.configs import TINY
from pi0_ttnn_core.model_inputs import model_inputs
from pi0_ttnn_core.reference.denoise import denoise
from pi0_ttnn_core.reference.suffix import create_sinusoidal_pos_embedding_torch
from support.huggingface_peer import huggingface_models

TOLERANCE = 1e-4
BATCH = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    make_checkpoint("tiny", folder, seed=1)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_backend("torch", open_checkpoint(folder)).model


@pytest.fixture(scope="module")
def huggingface(folder):
    return huggingface_models(folder, TINY)


@pytest.fixture(scope="module")
def inputs():
    """Two observations: one lacks its second camera, the other its third; prompts of different length."""
    random = torch.Generator().manual_seed(2)
    return {
        "images": torch.rand(BATCH, 3, 3, 224, 224, generator=random) * 2 - 1,
        "image_masks": torch.tensor([[True, False, True], [True, True, False]]),
        "tokens": torch.randint(0, TINY.vocab_size - 1, (BATCH, 20), generator=random),
        "token_mask": torch.arange(20) < torch.tensor([[7], [20]]),
        "state": torch.randn(BATCH, TINY.action_dim, generator=random),
        "noise": torch.randn(BATCH, TINY.action_horizon, TINY.action_dim, generator=random),
    }


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@torch.inference_mode()
def test_vision_tower_equals_siglip(model, huggingface, inputs):
    images = inputs["images"].flatten(0, 1)
    expected = huggingface[0].model.vision_tower(images).last_hidden_state
    assert difference(model.prefix_embedding.vision_tower(images), expected) < TOLERANCE


@torch.inference_mode()
def test_image_embeddings_equal_paligemma(model, huggingface, inputs):
    expected = huggingface[0].model.get_image_features(inputs["images"].flatten(0, 1)).pooler_output
    embedded = model.prefix_embedding.embed_images(inputs["images"])
    assert difference(embedded, expected.reshape(embedded.shape)) < TOLERANCE


@torch.inference_mode()
def test_language_embeddings_equal_gemma(model, huggingface, inputs):
    expected = huggingface[0].model.language_model.get_input_embeddings()(inputs["tokens"])
    assert difference(model.prefix_embedding.embed_language(inputs["tokens"]), expected) < TOLERANCE


def huggingface_prefill(paligemma, embedded: torch.Tensor, pad_mask: torch.Tensor) -> DynamicCache:
    """Prefill with masks and positions written from the paper's description, not taken from `masks`."""
    allowed = torch.einsum("bi,bj->bij", pad_mask.float(), pad_mask.float())[:, None]
    cache = DynamicCache()
    paligemma.model.language_model(
        inputs_embeds=embedded,
        attention_mask=(1.0 - allowed) * -2.3819763e38,
        position_ids=pad_mask.long().cumsum(1) - 1,
        past_key_values=cache,
        use_cache=True,
    )
    return cache


def huggingface_velocity(model, expert, cache, pad_mask, state, actions, time) -> torch.Tensor:
    """Return the expert's velocity; only the suffix embedding, which has its own test below, is our model's."""
    suffix = TINY.action_horizon + 1
    embedded, _ = model.suffix_embedding.embed_suffix(state, actions, time)
    allowed = torch.ones(BATCH, suffix, pad_mask.shape[1] + suffix)
    allowed[:, :, : pad_mask.shape[1]] = pad_mask[:, None].float()
    allowed[:, 0, pad_mask.shape[1] + 1 :] = 0.0
    copy = DynamicCache(tuple((layer.keys.clone(), layer.values.clone()) for layer in cache.layers))
    hidden = expert.model(
        inputs_embeds=embedded,
        attention_mask=(1.0 - allowed[:, None]) * -2.3819763e38,
        position_ids=pad_mask.sum(1, keepdim=True) + torch.arange(suffix),
        past_key_values=copy,
        use_cache=True,
    ).last_hidden_state
    return model.suffix_embedding.project_output(hidden[:, 1:])


@torch.inference_mode()
def test_kv_cache_of_every_layer_equals_gemma(model, huggingface, inputs):
    prefix = model.encode_prefix(*(inputs[name] for name in ("images", "image_masks", "tokens", "token_mask")))
    embedded = model.prefix_embedding.embed_prefix(inputs["images"], inputs["tokens"])
    cache = huggingface_prefill(huggingface[0], embedded, prefix.pad_mask)
    valid = prefix.pad_mask[:, None, :, None]  # nothing attends to padding
    assert len(prefix.cache) == TINY.prefix.depth
    for (key, value), layer in zip(prefix.cache, cache.layers, strict=True):
        assert difference(key * valid, layer.keys * valid) < TOLERANCE
        assert difference(value * valid, layer.values * valid) < TOLERANCE


@torch.inference_mode()
def test_ten_step_actions_equal_gemma(model, huggingface, inputs):
    paligemma, expert = huggingface
    pad_mask = torch.cat([inputs["image_masks"].repeat_interleave(64, 1), inputs["token_mask"]], 1)
    embedded = model.prefix_embedding.embed_prefix(inputs["images"], inputs["tokens"])
    cache = huggingface_prefill(paligemma, embedded, pad_mask)
    expected, time = inputs["noise"], 1.0
    for _ in range(10):
        times = torch.full((BATCH,), time)
        velocity = huggingface_velocity(model, expert, cache, pad_mask, inputs["state"], expected, times)
        expected, time = expected - 0.1 * velocity, time - 0.1
    actions = model.sample_actions(**inputs, num_steps=10)
    assert (expected - inputs["noise"]).abs().max() > 0.1  # the model changes the noise
    assert difference(actions, expected) < TOLERANCE


@torch.inference_mode()
def test_suffix_embedding_equals_its_formula_in_numpy(model, inputs):
    suffix = model.suffix_embedding
    weights = {name: tensor.double().numpy() for name, tensor in suffix.state_dict().items()}

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    time = 0.3
    half = TINY.expert.width // 2
    angles = [2 * math.pi * time / (4e-3 * (4.0 / 4e-3) ** (i / (half - 1))) for i in range(half)]
    embedded_time = np.array([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    actions = linear("action_in_proj", inputs["noise"].double().numpy())
    fused = np.concatenate([actions, np.broadcast_to(embedded_time, actions.shape)], axis=-1)
    hidden = linear("action_time_mlp_in", fused)
    expected_actions = linear("action_time_mlp_out", hidden / (1 + np.exp(-hidden)))
    expected_state = linear("state_proj", inputs["state"].double().numpy())

    embedded = suffix.embed_suffix(inputs["state"], inputs["noise"], torch.full((BATCH,), time))[0].numpy()
    assert np.abs(embedded[:, 0] - expected_state).max() < TOLERANCE
    assert np.abs(embedded[:, 1:] - expected_actions).max() < TOLERANCE


def test_time_embedding_spans_its_periods():
    time = torch.tensor([4e-3, 4.0], dtype=torch.float64)
    embedded = create_sinusoidal_pos_embedding_torch(time, 8, 4e-3, 4.0)
    # One full turn of the shortest period, one full turn of the longest: sin 0, cos 1.
    assert embedded[0, [0, 4]].tolist() == pytest.approx([0.0, 1.0], abs=1e-12)
    assert embedded[1, [3, 7]].tolist() == pytest.approx([0.0, 1.0], abs=1e-12)


def test_denoise_follows_closed_forms():
    noise = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    constant = denoise(lambda x, t: torch.full_like(x, 2.0), noise, 7)
    assert difference(constant, noise - 2.0) < 1e-5
    decay = denoise(lambda x, t: 3.0 * x, noise, 10)
    assert difference(decay, noise * (1 - 0.3) ** 10) < 1e-5
    # Times run from 1 down to 1 / steps: their mean is (1 + 1 / steps) / 2.
    times = denoise(lambda x, t: t[:, None, None].expand_as(x), noise, 4)
    assert difference(times, noise - 0.625) < 1e-5


def test_masked_inputs_do_not_reach_the_actions(model, inputs):
    before = model.sample_actions(**inputs, num_steps=2)
    changed = {name: tensor.clone() for name, tensor in inputs.items()}
    changed["images"][~inputs["image_masks"]] = 0.7
    changed["tokens"][~inputs["token_mask"]] = 3
    assert difference(model.sample_actions(**changed, num_steps=2), before) < 1e-5
    for name in ("images", "tokens", "state", "noise"):
        changed = {key: tensor.clone() for key, tensor in inputs.items()}
        changed[name][:, 0] += 1
        assert difference(model.sample_actions(**changed, num_steps=2), before) > 1e-3, name


def test_batch_rows_do_not_mix(model, inputs):
    together = model.sample_actions(**inputs, num_steps=2)
    alone = model.sample_actions(**{name: tensor[1:] for name, tensor in inputs.items()}, num_steps=2)
    assert difference(together[1:], alone) < 1e-5


def test_attention_masks():
    """The attention mask of prefix and suffix, block by block."""
    pad_mask = torch.tensor([[True, True, False, True]])
    allowed = masks.suffix_attention(pad_mask, state_tokens=1, horizon=2)[0, 0] == 0.0
    assert allowed.int().tolist() == [
        [1, 1, 0, 1, 1, 0, 0],  # the state attends to the prefix and itself
        [1, 1, 0, 1, 1, 1, 1],  # actions attend to all valid tokens
        [1, 1, 0, 1, 1, 1, 1],
    ]
    assert masks.suffix_positions(pad_mask, suffix=3).tolist() == [[3, 4, 5]]
    assert masks.prefix_positions(pad_mask).tolist() == [[0, 1, 1, 2]]


def test_bfloat16_stays_near_float32(folder, inputs):
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    batch, _ = model_inputs(arrays, TINY)
    checkpoint = open_checkpoint(folder)
    exact = load_backend("torch", checkpoint).sample_actions(batch, 10)
    rounded = load_backend("torch", checkpoint, "bfloat16").sample_actions(batch, 10)
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.999
