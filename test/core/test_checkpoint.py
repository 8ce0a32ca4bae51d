"""Checkpoints: tensors are read as stored, and errors name what cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0_ttnn_core.checkpoints.checkpoint import CheckpointError, open_checkpoint
from pi0_ttnn_core.checkpoints.tensor_names import expected_shapes, upstream_name
from pi0_ttnn_core.configs import PI0, TINY

DATA = Path(__file__).parents[1] / "data"
EMBEDDING = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def rewrite(folder, change):
    """Apply `change` to the checkpoint's tensors."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def rewrite_json(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_full_size_tensor_names_match_lerobot():
    """Names and shapes of a full-size PI0 are those of LeRobot's pi0 policy, listed with one line per kind of layer."""
    theirs = {}
    for line in (DATA / "lerobot_pi0_tensors.tsv").read_text().splitlines():
        name, shape, count = line.split("\t")
        for layer in range(int(count)):
            theirs[name.replace("*", str(layer))] = tuple(int(size) for size in shape.split(","))
    ours = {"model." + upstream_name(name): shape for name, shape in expected_shapes(PI0).items()}
    heads = {name for name in theirs if "lm_head" in name}
    assert ours == {name: shape for name, shape in theirs.items() if name not in heads}


def test_every_tensor_is_read_as_stored(tiny_checkpoint):
    stored = load_file(tiny_checkpoint / "model.safetensors")
    read = dict(open_checkpoint(tiny_checkpoint).read_tensors())
    assert set(read) == set(expected_shapes(TINY))
    assert all(torch.equal(tensor, stored["model." + upstream_name(name)]) for name, tensor in read.items())


def test_shards_read_like_one_file(folder):
    whole = dict(open_checkpoint(folder).read_tensors())
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for shard, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{shard:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    sharded = dict(open_checkpoint(folder).read_tensors())
    assert sharded.keys() == whole.keys()
    assert all(torch.equal(sharded[name], whole[name]) for name in whole)


def test_lm_head_replaces_missing_embedding(folder):
    """The tied language head is read where a checkpoint leaves out the embedding."""
    expected = load_file(folder / "model.safetensors")[EMBEDDING]
    rewrite(folder, lambda tensors: tensors.pop(EMBEDDING))
    read = dict(open_checkpoint(folder).read_tensors())
    assert torch.equal(read["prefix_embedding.embed_tokens.weight"], expected)


def test_every_tensor_that_does_not_fit_is_listed(folder):
    def change(tensors):
        del tensors["model.state_proj.bias"]
        tensors["model.action_in_proj.weight"] = torch.zeros(7, 5)
        tensors["model.surplus"] = torch.zeros(1)

    rewrite(folder, change)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(folder)
    text = str(error.value)
    assert "3 of the tensors" in text
    assert "missing: model.state_proj.bias [96]" in text
    assert "misshapen: model.action_in_proj.weight is [7, 5], expected [96, 32]" in text
    assert "unknown: model.surplus" in text


@pytest.mark.parametrize(
    ("file", "change", "culprit"),
    [
        ("config.json", lambda c: c.update(type="act"), "type is 'act'"),
        ("config.json", lambda c: c["architecture"].pop("horizon"), "missing ['horizon']"),
        ("config.json", lambda c: c["architecture"]["vision"].update(width=-1), "architecture.vision.width"),
        ("config.json", lambda c: c["architecture"]["vision"].update(width="72"), "architecture.vision.width"),
        ("config.json", lambda c: c["architecture"]["expert"].update(depth=2), "expert.depth 2"),
        ("config.json", lambda c: c["architecture"].update(extra=1), "unknown ['extra']"),
        ("config.json", lambda c: c.update(input_features={}), "input_features"),
        ("config.json", lambda c: c["output_features"]["action"].update(shape=[33]), "action a shape"),
        ("policy_preprocessor.json", lambda c: c.update(steps=[]), "normalizer_processor"),
        ("policy_preprocessor.json", lambda c: c["steps"][0].update(state_file="../x"), "leads out"),
        (
            "policy_postprocessor.json",
            lambda c: c["steps"][0]["config"]["norm_map"].update(ACTION="DECILES"),
            "DECILES",
        ),
    ],
)
def test_invalid_config_json(folder, file, change, culprit):
    """Invalid values in config.json are refused by name."""
    rewrite_json(folder / file, change)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(folder)
    assert culprit in str(error.value)


def test_config_without_architecture(folder):
    """A config.json without sizes is a full-size PI0."""
    rewrite_json(folder / "config.json", lambda content: content.pop("architecture"))
    with pytest.raises(
        CheckpointError, match=r"misshapen: .*patch_embedding.weight is .* expected \[1152, 3, 14, 14\]"
    ):
        open_checkpoint(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "policy_preprocessor.json"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} is missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize("keep", [0, 7, 1000, 7_000_000])
def test_a_truncated_file_is_refused(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        open_checkpoint(folder)


def test_a_shard_outside_of_the_folder_is_refused(folder):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(CheckpointError, match="leads out"):
        open_checkpoint(folder)


@pytest.mark.parametrize(("values", "culprit"), [(torch.zeros(3), "shape"), (torch.full((14,), torch.nan), "finite")])
def test_invalid_statistics(folder, values, culprit):
    """Invalid normalization statistics are refused by name."""
    file = next(folder.glob("policy_preprocessor*.safetensors"))
    statistics = load_file(file)
    statistics["observation.state.mean"] = values
    save_file(statistics, file)
    with pytest.raises(CheckpointError, match=f"observation.state.mean.*{culprit}"):
        open_checkpoint(folder)


def test_the_same_seed_gives_the_same_checkpoint(tiny_checkpoint, tmp_path):
    from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint

    make_checkpoint("tiny", tmp_path / "same", seed=0)
    make_checkpoint("tiny", tmp_path / "other", seed=1)
    original = (tiny_checkpoint / "model.safetensors").read_bytes()
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == original
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != original


def test_statistics_are_read_as_stored(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint)
    stored = load_file(next(tiny_checkpoint.glob("policy_postprocessor*.safetensors")))
    action = checkpoint.metadata.action_statistics
    np.testing.assert_array_equal(action.values["mean"], stored["action.mean"].numpy())
    np.testing.assert_array_equal(action.values["std"], stored["action.std"].numpy())
    assert (action.kind, action.eps) == ("mean_std", 1e-8)
    assert checkpoint.cameras == ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
