"""Layouts of LeRobot and openpi, new and old: the same weights and statistics, however they are stored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0_ttnn_core.checkpoints.checkpoint import CheckpointError, open_checkpoint
from pi0_ttnn_core.checkpoints.random_checkpoint import make_checkpoint, write_checkpoint
from pi0_ttnn_core.configs import TINY, TINY_PI05, architecture_of
from pi0_ttnn_core.policy import load_policy
from pi0_ttnn_core.processing.normalization import make_normalization
from pi0_ttnn_core.processing.robot import Robot

EMBEDDING = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
HEADS = ("paligemma_with_expert.paligemma.lm_head.weight", "paligemma_with_expert.gemma_expert.lm_head.weight")
JOINTS = tuple(f"joint_{number}" for number in range(14))
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


@pytest.fixture(scope="session")
def tiny_pi05(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny_pi05"
    make_checkpoint("tiny_pi05", folder, seed=0)
    return folder


def read_weights(folder) -> dict[str, torch.Tensor]:
    return dict(open_checkpoint(folder).read_tensors())


def assert_same_weights(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def openpi_export(source: Path, out: Path, config, statistics: dict) -> Path:
    """Store `source` like openpi's export: no `model.`, the tied embedding under the head's name, no processors."""
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(source / "model.safetensors").items()}
    del tensors[EMBEDDING]
    out.mkdir()
    save_file(tensors, out / "model.safetensors")
    settings = {"action_dim": 32, "action_horizon": 50, "paligemma_variant": "gemma_2b", "precision": "float32"}
    (out / "config.json").write_text(json.dumps(settings | {"architecture": architecture_of(config)}))
    for key, values in statistics.items():
        (out / "assets" / key).mkdir(parents=True)
        (out / "assets" / key / "norm_stats.json").write_text(json.dumps({"norm_stats": values}))
    shutil.copy(source / "tokenizer.json", out)
    return out


def norm_stats(size: int, scale: float = 1.0) -> dict:
    vectors = {"mean": 0.1, "std": 0.5, "q01": -0.9, "q99": 1.1}
    feature = {name: [scale * value] * size for name, value in vectors.items()}
    return {"state": feature, "actions": feature}


def test_openpi_export_of_pi0(tiny_checkpoint, tmp_path):
    folder = openpi_export(tiny_checkpoint, tmp_path / "openpi", TINY, {"trossen": norm_stats(14)})
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.metadata.layout, checkpoint.config.pi05) == ("openpi", False)
    assert checkpoint.cameras == CAMERAS and checkpoint.metadata.state_size == 14
    assert_same_weights(read_weights(folder), read_weights(tiny_checkpoint))


def test_openpi_export_of_pi05(tiny_pi05, tmp_path):
    """A PI0.5 export is recognized by its tensors."""
    folder = openpi_export(tiny_pi05, tmp_path / "openpi", TINY_PI05, {"droid": norm_stats(14)})
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config.pi05 and checkpoint.config.max_prompt_tokens == 200
    assert checkpoint.metadata.state_statistics.kind == "quantiles"
    assert_same_weights(read_weights(folder), read_weights(tiny_pi05))


def test_openpi_action_horizon(tiny_checkpoint, tmp_path):
    """The action horizon of an openpi export is read from its config."""
    folder = openpi_export(tiny_checkpoint, tmp_path / "openpi", TINY, {"trossen": norm_stats(14)})
    settings = json.loads((folder / "config.json").read_text())
    settings["architecture"]["horizon"] = settings["action_horizon"] = 16
    (folder / "config.json").write_text(json.dumps(settings))
    assert load_policy(folder, "torch", Robot(CAMERAS, JOINTS)).action_horizon == 16


def test_padded_statistics(tiny_checkpoint, tmp_path):
    """With statistics padded to the model's width the robot decides the number of joints."""
    folder = openpi_export(tiny_checkpoint, tmp_path / "openpi", TINY, {"base": norm_stats(32)})
    assert open_checkpoint(folder).metadata.state_size is None
    policy = load_policy(folder, "torch", Robot(CAMERAS, JOINTS[:7]))
    assert (policy.state_size, policy.action_size) == (7, 7)


def test_several_statistics_need_a_choice(tiny_checkpoint, tmp_path):
    """With several asset folders one has to be named."""
    statistics = {"trossen": norm_stats(14), "ur5": norm_stats(14, scale=2.0)}
    folder = openpi_export(tiny_checkpoint, tmp_path / "openpi", TINY, statistics)
    with pytest.raises(CheckpointError, match=r"\['trossen', 'ur5'\]: choose one by normalization_key"):
        open_checkpoint(folder)
    with pytest.raises(CheckpointError, match="no statistics 'franka'"):
        open_checkpoint(folder, "franka")
    assert open_checkpoint(folder, "ur5").metadata.state_statistics.values["std"].tolist() == [1.0] * 14


def test_openpi_export_without_statistics(tiny_checkpoint, tmp_path):
    """An openpi export without assets loads bare, but refuses to drive a robot."""
    folder = openpi_export(tiny_checkpoint, tmp_path / "openpi", TINY, {})
    assert_same_weights(read_weights(folder), read_weights(tiny_checkpoint))
    with pytest.raises(CheckpointError, match=r"norm_stats.json is missing: copy the assets"):
        load_policy(folder, "torch", Robot(CAMERAS, JOINTS))


def test_invalid_openpi_statistics(tiny_checkpoint, tmp_path):
    """Invalid openpi statistics are refused by name."""
    bad = norm_stats(14)
    bad["actions"] = bad["actions"] | {"std": [1.0, float("nan")]}
    folder = openpi_export(tiny_checkpoint, tmp_path / "openpi", TINY, {"trossen": bad})
    with pytest.raises(CheckpointError, match=r"actions\.std must be 1 to 32 finite numbers"):
        open_checkpoint(folder)


def older_name(name: str) -> str:
    """Return a tensor's name before transformers 4.52 and LeRobot 0.4."""
    stem = "model.paligemma_with_expert.paligemma."
    for present, older in (
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    ):
        if name.startswith(stem + present):
            return stem + older + name.removeprefix(stem + present)
    return name


def make_older(folder: Path) -> None:
    """Rename the tensors and move the statistics into buffers of the model's file."""
    tensors = {older_name(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    for module, feature in (("normalize_inputs", "observation.state"), ("unnormalize_outputs", "action")):
        stored = load_file(next(folder.glob("policy_preprocessor*.safetensors")))
        for statistic in ("mean", "std"):
            name = f"{module}.buffer_{feature.replace('.', '_')}.{statistic}"
            tensors[name] = stored[f"{feature}.{statistic}"]
    for file in folder.glob("policy_*"):
        file.unlink()
    save_file(tensors, folder / "model.safetensors")


def test_older_lerobot_names_and_buffers(folder, tiny_checkpoint):
    make_older(folder)
    assert_same_weights(read_weights(folder), read_weights(tiny_checkpoint))
    ours, theirs = (open_checkpoint(path).metadata for path in (folder, tiny_checkpoint))
    for name in ("state_statistics", "action_statistics"):
        old, new = getattr(ours, name), getattr(theirs, name)
        assert (old.kind, old.eps) == (new.kind, new.eps)
        np.testing.assert_array_equal(old.values["mean"], new.values["mean"])
        np.testing.assert_array_equal(old.values["std"], new.values["std"])


def test_missing_unused_heads(folder, tiny_checkpoint):
    """A checkpoint without heads that inference does not use is complete."""
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n.removeprefix("model.") not in HEADS}, folder / "model.safetensors")
    assert_same_weights(read_weights(folder), read_weights(tiny_checkpoint))


def test_names_without_lerobots_prefix(folder, tiny_checkpoint):
    tensors = load_file(folder / "model.safetensors")
    save_file({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    assert_same_weights(read_weights(folder), read_weights(tiny_checkpoint))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_exactly(folder, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    weights = load_policy(folder, "torch").backend.model.state_dict()
    stored = read_weights(folder)
    assert all(torch.equal(weights[name], stored[name].float()) for name in stored)


def test_tensors_of_wrong_dtype_are_listed(folder):
    """Tensors of a wrong dtype are listed by name."""
    tensors = load_file(folder / "model.safetensors")
    tensors["model.state_proj.bias"] = tensors["model.state_proj.bias"].to(torch.int32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"dtype: model\.state_proj\.bias is I32"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_a_pickle_is_refused(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(CheckpointError, match=f"{name}.*pickles.*refused"):
        open_checkpoint(folder)


def test_pi05_tensors_declared_as_pi0(tiny_pi05, tmp_path):
    """A config.json that says PI0 beside PI0.5's tensors is refused."""
    folder = Path(shutil.copytree(tiny_pi05, tmp_path / "wrong"))
    settings = json.loads((folder / "config.json").read_text()) | {"type": "pi0"}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"unknown: model\.time_mlp_in\.weight"):
        open_checkpoint(folder)


def test_unknown_processor_step(folder):
    """A processor step that is not supported is refused by name."""
    file = folder / "policy_preprocessor.json"
    content = json.loads(file.read_text())
    content["steps"].append({"registry_name": "image_crop_resize_processor"})
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"\['image_crop_resize_processor'\] are not known"):
        open_checkpoint(folder)


def test_base_model_without_statistics(folder):
    """A base model without statistics refuses to drive a robot."""
    for file in folder.glob("policy_*.safetensors"):
        save_file({"observation.other.mean": torch.zeros(1)}, file)
    assert open_checkpoint(folder).metadata.state_statistics.missing
    with pytest.raises(CheckpointError, match="base model"):
        load_policy(folder, "torch")


def test_empty_training_cameras_are_ignored(folder):
    """LeRobot's empty cameras are not asked of the robot."""
    file = folder / "config.json"
    content = json.loads(file.read_text())
    content["input_features"]["observation.images.empty_camera_0"] = {"type": "VISUAL", "shape": [3, 224, 224]}
    file.write_text(json.dumps(content))
    assert open_checkpoint(folder).cameras == CAMERAS


@pytest.mark.parametrize("kind", ["mean_std", "quantiles"])
@pytest.mark.parametrize("conventions", ["lerobot", "openpi"])
def test_normalization_conventions(tmp_path, kind, conventions):
    """Normalisation against formulas from the sources of LeRobot and openpi, in float64."""
    config = TINY_PI05 if kind == "quantiles" else TINY
    write_checkpoint(config, tmp_path, seed=0, dtype="float32")
    statistics = open_checkpoint(tmp_path).metadata.state_statistics
    x = np.linspace(-2, 2, 14)
    low, high = (
        statistics.values[name].astype(np.float64) for name in (("mean", "std"), ("q01", "q99"))[kind == "quantiles"]
    )
    if kind == "mean_std":
        eps = {"lerobot": 1e-8, "openpi": 1e-6}[conventions]
        normalized, back = (x - low) / (high + eps), x * (high + (0 if conventions == "lerobot" else eps)) + low
    else:
        span = high - low + (0 if conventions == "lerobot" else 1e-6)
        normalized, back = 2 * (x - low) / span - 1, (x + 1) / 2 * span + low
    normalization = make_normalization(statistics, 14, conventions)
    np.testing.assert_allclose(normalization.normalize(x.astype(np.float32)), normalized, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(normalization.unnormalize(x.astype(np.float32)), back, rtol=2e-6, atol=2e-6)
