"""The command pi0-ttnn, run as a user runs it."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pi0_ttnn_core.backend_factory import load_backend
from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
from pi0_ttnn_core.configs import TINY
from pi0_ttnn_core.model_inputs import model_inputs
from pi0_ttnn_ros.cli import make_checkpoint
from pi0_ttnn_ros.cli.main import build_parser, main
from pi0_ttnn_ros.system.package_files import package_version
from support.former_yaml import FORMER_YAML

ROOT = Path(__file__).parents[2]


def pi0_ttnn(*arguments) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pi0_ttnn_ros.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "images": random.uniform(-1, 1, (2, 3, 224, 224)).astype(np.float32),
        "image_masks": np.array([True, True]),
        "tokens": random.integers(0, TINY.vocab_size, 11).astype(np.int32),
        "token_mask": np.arange(11) < 9,
        "state": random.standard_normal(32).astype(np.float32),
        "noise": random.standard_normal((50, 32)).astype(np.float32),
    }


def infer(folder, tmp_path, arrays, *options):
    np.savez(tmp_path / "in.npz", **arrays)
    out = tmp_path / "actions.npy"
    run = pi0_ttnn("infer", "--checkpoint", folder, "--inputs", tmp_path / "in.npz", "--out", out, *options)
    return run, out


def test_infer_writes_actions(tiny_checkpoint, tmp_path, arrays):
    """`infer` writes the model's actions."""
    run, out = infer(tiny_checkpoint, tmp_path, arrays, "--backend", "torch", "--num-steps", "4")
    assert run.returncode == 0, run.stderr
    actions = np.load(out)
    assert actions.dtype == np.float32 and actions.shape == (50, 32)
    inputs, _ = model_inputs(arrays, TINY)
    expected = load_backend("torch", open_checkpoint(tiny_checkpoint)).sample_actions(inputs, 4)[0]
    np.testing.assert_allclose(actions, expected, atol=1e-5)


def test_infer_accepts_a_batch(tiny_checkpoint, tmp_path, arrays):
    batch = {name: np.stack([array, array]) for name, array in arrays.items()}
    run, out = infer(tiny_checkpoint, tmp_path, batch)
    assert run.returncode == 0, run.stderr
    actions = np.load(out)
    assert actions.shape == (2, 50, 32)
    np.testing.assert_allclose(actions[0], actions[1], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda a: a.pop("state"), "missing ['state']"),
        (lambda a: a.update(extra=np.zeros(1)), "unknown ['extra']"),
        (lambda a: a.update(images=a["images"][:, :, :100]), "images has shape [1, 2, 3, 100, 224]"),
        (lambda a: a.update(image_masks=np.array([True])), "image_masks has shape [1, 1], expected [1, 2]"),
        (lambda a: a.update(state=a["state"] * np.nan), "state has values that are not finite"),
        (lambda a: a.update(tokens=a["tokens"] + 600), "tokens must lie in 0..511"),
        (lambda a: a.update(tokens=a["tokens"].astype(float)), "tokens must be int32"),
        (lambda a: a.update(noise=a["noise"][None]), "leading batch axis"),
    ],
)
def test_bad_inputs_are_refused_by_name(tiny_checkpoint, tmp_path, arrays, change, culprit):
    change(arrays)
    run, out = infer(tiny_checkpoint, tmp_path, arrays)
    assert run.returncode == 2
    assert culprit in run.stderr and "Traceback" not in run.stderr
    assert not out.exists()


def test_a_missing_checkpoint_is_one_clear_line(tmp_path, arrays):
    run, _ = infer(tmp_path / "nowhere", tmp_path, arrays)
    assert run.returncode == 2
    assert run.stderr.startswith("pi0-ttnn infer: ") and "nowhere is not a directory" in run.stderr


def test_a_file_that_is_no_npz_is_refused(tiny_checkpoint, tmp_path):
    (tmp_path / "in.npz").write_bytes(b"not a zip")
    run = pi0_ttnn("infer", "--checkpoint", tiny_checkpoint, "--inputs", tmp_path / "in.npz", "--out", tmp_path / "a")
    assert run.returncode == 2 and "in.npz is not an .npz file" in run.stderr


def test_bench_model():
    """`bench model` prints time and memory."""
    run = pi0_ttnn("bench", "model", "--config", "tiny", "--repeats", "1")
    assert run.returncode == 0, run.stderr
    for line in (r"loading: peak memory [\d.]+ GiB, [\d.]+ x the weights", r"torch backend on CPU .*: [\d.]+ s .* GiB"):
        assert re.search(line, run.stdout), run.stdout


def test_inspect_describes_the_pipeline(tiny_checkpoint):
    """`inspect` describes what is done with an observation."""
    run = pi0_ttnn("inspect", tiny_checkpoint, "--robot", ROOT / "config" / "aloha.yaml")
    assert run.returncode == 0, run.stderr
    for part in ("PI0, lerobot layout", "in F32", "cameras: base_0_rgb,", "state: 14 values", "horizon 50"):
        assert part in run.stdout
    steps = ("resize_with_pad", "mean and standard deviation (eps 1e-08)", "prompt: instruction", "pad the state")
    places = [run.stdout.index(step) for step in steps]
    assert places == sorted(places)
    assert "can run on this robot" in run.stdout


def test_inspect_refuses_mismatched_robot(tiny_checkpoint, tmp_path):
    """`inspect` refuses a robot that does not match the checkpoint."""
    lines = (ROOT / "config" / "aloha.yaml").read_text().splitlines()
    yaml = "\n".join(line for line in lines if "left_waist" not in line)
    (tmp_path / "robot.yaml").write_text(yaml.replace("base_0_rgb", "head"))
    run = pi0_ttnn("inspect", tiny_checkpoint, "--robot", tmp_path / "robot.yaml")
    assert run.returncode == 1
    assert "cameras names ['head']" in run.stdout and "13 joints, the checkpoint's state has 14" in run.stdout


def test_inspect_refuses_former_yaml(tiny_checkpoint, tmp_path):
    """`inspect` refuses the former YAML and prints the new one."""
    (tmp_path / "robot.yaml").write_text(FORMER_YAML)
    run = pi0_ttnn("inspect", tiny_checkpoint, "--robot", tmp_path / "robot.yaml")
    assert run.returncode == 2 and "    base_0_rgb: {topic: camera/image}\n" in run.stderr


def test_inspect_names_a_missing_tokenizer(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    (folder / "tokenizer.json").unlink()
    run = pi0_ttnn("inspect", folder)
    assert run.returncode == 1 and "Accept the licence of google/paligemma" in run.stdout


def test_inspect_loads_neither_torch_nor_weights(tiny_checkpoint):
    code = (
        "import sys; from pathlib import Path; from pi0_ttnn_core.processing.inspection import inspect; "
        f"inspect(Path({str(tiny_checkpoint)!r}), None); assert 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of all commands, and of theirs, by the words that name them."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                found[name] = command
                found |= {f"{name} {word}": each for word, each in subcommands(command).items()}
    return found


COMMANDS = subcommands(build_parser())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_that_work(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    examples = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    assert examples
    for line in examples:
        name, *words = shlex.split(line)
        assert name == "pi0-ttnn" and words[: len(command.split())] == command.split()
        build_parser().parse_args(words)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_has_a_help_text_and_a_choice(command):
    for action in COMMANDS[command]._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help, action.option_strings
            assert action.choices is None or len(action.choices) > 1, action.option_strings


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pi0-ttnn {package_version()}\n"


@pytest.mark.parametrize("command", ["inspect CHECKPOINT", "bag-info BAG", "replay BAG --checkpoint CHECKPOINT"])
def test_robot_is_a_name_or_a_file_in_every_command(command, tmp_path, capsys):
    """A name that is unknown and a file that is missing are each reported in one line."""
    words = command.split()
    for robot, text in (("toaster", "choose from"), (str(tmp_path / "toaster.yaml"), "toaster.yaml")):
        assert main([*words, "--robot", robot]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"pi0-ttnn {words[0]}: ") and text in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "status", "printed"),
    [
        (OSError("no space"), 2, "pi0-ttnn make-checkpoint: no space\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_status(raised, status, printed, monkeypatch, capsys):
    def run(arguments):
        raise raised

    monkeypatch.setattr(make_checkpoint, "run", run)
    assert main(["make-checkpoint", "--config", "tiny", "--out", "anywhere"]) == status
    assert capsys.readouterr().err == printed


def test_the_parser_imports_nothing_slow():
    code = "import sys; from pi0_ttnn_ros.cli.main import build_parser; build_parser(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "ttnn", "rclpy", "rosbags", "cv2"} & set(run.stdout.split())
