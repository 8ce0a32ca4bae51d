"""The whole policy against LeRobot's results from the same seeds (scripts/peers/make_peer_fixtures)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pi0_ttnn_core.backend_factory import load_backend
from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
from pi0_ttnn_core.checkpoints.random_checkpoint import byte_tokenizer, write_weights
from pi0_ttnn_core.configs import architecture_of
from pi0_ttnn_core.model_inputs import model_inputs
from pi0_ttnn_core.policy import load_policy
from pi0_ttnn_core.policy_io import Observation
from pi0_ttnn_core.processing.images import resize_with_pad, resize_with_pad_antialiased
from pi0_ttnn_core.processing.robot import Robot
from pi0_ttnn_core.reference.backend import load_model
from support.peer_cases import (
    CASES,
    DETAILED,
    JOINTS,
    RAW,
    RESIZED,
    RESIZES,
    SEED,
    SMALL,
    model_arrays,
    raw_observation,
    resize_image,
)

DATA = Path(__file__).parents[1] / "data" / "lerobot"
TOLERANCE = 2e-4
# Every input must change the actions far more than the tolerance, or their equality would prove nothing.
VISIBLE = 100 * TOLERANCE

family = pytest.mark.parametrize("family", SMALL)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """LeRobot's own config and pipelines, with random weights and, in config.json, the model's small sizes."""
    folders = {}
    for name, config in SMALL.items():
        folders[name] = Path(shutil.copytree(DATA / name, tmp_path_factory.mktemp("peer") / name))
        write_weights(config, folders[name] / "model.safetensors", SEED, "float32")
        byte_tokenizer().save(str(folders[name] / "tokenizer.json"))
        file = folders[name] / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"architecture": architecture_of(config)}))
    return folders


@pytest.fixture(scope="module")
def models(folders):
    return {name: load_model(open_checkpoint(folder), torch.float32) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def results():
    return {name: dict(np.load(DATA / name / "results.npz")) for name in SMALL}


def case_tensors(case, config) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in model_arrays(case, config).items()}


def assert_equal(ours, theirs) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(np.asarray(ours) - theirs).max() <= TOLERANCE


@family
@pytest.mark.parametrize("name", CASES)
def test_actions_and_first_velocity(models, results, family, name):
    inputs = case_tensors(CASES[name], SMALL[family])
    model = models[family]
    actions = model.sample_actions(**inputs, num_steps=10)
    assert_equal(actions, results[family][f"{name}.actions"])
    with torch.inference_mode():
        prefix = model.encode_prefix(*(inputs[key] for key in ("images", "image_masks", "tokens", "token_mask")))
        velocity = model.velocity(prefix, inputs["state"], inputs["noise"], torch.ones(len(inputs["state"])))
    assert_equal(velocity, results[family][f"{name}.velocity"])


@family
@torch.inference_mode()
def test_embeddings_and_kv_cache(models, results, family):
    inputs, model, theirs = case_tensors(CASES[DETAILED], SMALL[family]), models[family], results[family]
    embedding = model.prefix_embedding
    images = embedding.embed_images(inputs["images"])
    assert_equal(images, theirs[f"{DETAILED}.images"].reshape(images.shape))
    assert_equal(embedding.embed_prefix(inputs["images"], inputs["tokens"]), theirs[f"{DETAILED}.prefix"])
    prefix = model.encode_prefix(*(inputs[key] for key in ("images", "image_masks", "tokens", "token_mask")))
    assert prefix.pad_mask.shape[1] == theirs[f"{DETAILED}.keys"].shape[3]
    valid = prefix.pad_mask[:, None, :, None].numpy()  # nothing attends to padding
    for layer, (key, value) in enumerate(prefix.cache):
        assert_equal(key.numpy() * valid, theirs[f"{DETAILED}.keys"][layer] * valid)
        assert_equal(value.numpy() * valid, theirs[f"{DETAILED}.values"][layer] * valid)


@family
def test_every_input_moves_the_actions(models, family):
    config = SMALL[family]
    inputs = case_tensors(CASES["three_cameras"], config)

    def change_of_actions(name: str, place: tuple, change) -> float:
        changed = {key: tensor.clone() for key, tensor in inputs.items()}
        changed[name][place] = change(changed[name][place])
        before, after = (models[family].sample_actions(**arrays, num_steps=10) for arrays in (inputs, changed))
        return (after - before).abs().max().item()

    for camera in range(3):
        assert change_of_actions("images", (0, camera), torch.neg) > VISIBLE, camera
    for token in range(inputs["tokens"].shape[1]):
        assert change_of_actions("tokens", (0, token), lambda x: (x + 1) % config.vocab_size) > VISIBLE, token
    if not config.pi05:  # PI0.5 has the state in its prompt
        assert change_of_actions("state", (0,), torch.neg) > VISIBLE


@family
@pytest.mark.parametrize("name", RAW)
def test_from_raw_observation_to_the_robots_units(folders, results, family, name):
    images, state, noise = raw_observation(name)
    robot = Robot(cameras=tuple(images), joint_names=tuple(JOINTS))
    policy = load_policy(folders[family], "torch", robot)
    policy._noise = lambda stamp_ns: noise  # the noise that LeRobot was given
    actions = policy.infer(Observation(images, state, RAW[name].task, stamp_ns=0)).actions
    assert_equal(actions, results[family][f"raw.{name}.actions"])


@family
def test_a_float_image_gives_the_same_as_its_bytes(folders, family):
    images, state, _ = raw_observation("portrait_and_landscape")
    floats = {camera: image.astype(np.float32) / np.float32(255) for camera, image in images.items()}
    policy = load_policy(folders[family], "torch", Robot(tuple(images), tuple(JOINTS)))
    chunks = [policy.infer(Observation(pixels, state, "fold", stamp_ns=5)).actions for pixels in (images, floats)]
    np.testing.assert_allclose(*chunks, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), RESIZES)
def test_resized_pixels_are_lerobots(height, width):
    theirs = np.load(DATA / "resizes.npz")[f"lerobot.{height}x{width}"] * 2.0 - 1.0
    image = resize_image(height, width)
    np.testing.assert_allclose(resize_with_pad(image, RESIZED).transpose(1, 2, 0), theirs, atol=1e-6)
    as_float = image.astype(np.float32) / np.float32(255)
    np.testing.assert_allclose(resize_with_pad(as_float, RESIZED), resize_with_pad(image, RESIZED), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), RESIZES)
def test_resized_pixels_are_openpis(height, width):
    theirs = np.load(DATA / "resizes.npz")[f"openpi.{height}x{width}"].astype(np.float32) / 255.0 * 2.0 - 1.0
    ours = resize_with_pad_antialiased(resize_image(height, width), RESIZED)
    np.testing.assert_allclose(ours.transpose(1, 2, 0), theirs, atol=1e-6)


@family
def test_a_batch_through_the_backend_is_its_rows(folders, family):
    config = SMALL[family]
    arrays = model_arrays(CASES["batch"], config)
    backend = load_backend("torch", open_checkpoint(folders[family]))
    together = backend.sample_actions(model_inputs(arrays, config)[0], 10)
    for row in range(len(together)):
        alone = {name: array[row : row + 1] for name, array in arrays.items()}
        assert_equal(backend.sample_actions(model_inputs(alone, config)[0], 10)[0], together[row])
