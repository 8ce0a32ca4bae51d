"""Run the model alone, without pre- and postprocessing, on arrays from a file."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

import numpy as np

from pi0_ttnn_core.backend import BACKENDS
from pi0_ttnn_core.model_inputs import InputError, model_inputs
from pi0_ttnn_ros.cli.arguments import add_dtype, add_precision, add_verify, positive

EXAMPLES = """
  pi0-ttnn infer --checkpoint tiny --inputs in.npz --out actions.npy
  pi0-ttnn infer --checkpoint tiny --inputs in.npz --out actions.npy --backend ttnn --num-steps 5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="DIR", help="folder of the checkpoint")
    parser.add_argument("--inputs", type=Path, required=True, metavar="NPZ", help="arrays of ModelInputs, by name")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="NPY", help="file for the actions, float32 [horizon, action_dim]"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="what runs the model (default torch)")
    add_dtype(parser)
    add_precision(parser)
    parser.add_argument("--num-steps", type=positive, metavar="N", help="Euler steps (default: the checkpoint's)")
    add_verify(parser)


def run(arguments: argparse.Namespace) -> int:
    """Infer and write the actions."""
    from pi0_ttnn_core.backend_factory import load_backend
    from pi0_ttnn_core.checkpoints.checkpoint import open_checkpoint
    from pi0_ttnn_core.checkpoints.digests import forget_digests

    if arguments.verify:
        forget_digests()
    checkpoint = open_checkpoint(arguments.checkpoint)
    inputs, has_batch = model_inputs(_read_arrays(arguments.inputs), checkpoint.config)
    num_steps = arguments.num_steps or checkpoint.config.num_steps
    backend = load_backend(arguments.backend, checkpoint, arguments.dtype, arguments.precision, num_steps)
    actions = backend.sample_actions(inputs, num_steps)
    backend.close()
    with arguments.out.open("wb") as file:
        np.save(file, actions if has_batch else actions[0])
    return 0


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is not an .npz file of arrays ({error})") from error
