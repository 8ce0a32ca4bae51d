"""LeRobot's side of `pi0-ttnn bench model --lerobot`. Arguments: options as JSON, and the file to write."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lerobot
import torch
from lerobot.policies.pi0 import PI0Config, PI0Policy
from lerobot.policies.pi05 import PI05Config, PI05Policy
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pi0_ttnn_core.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pi0_ttnn_core.model_inputs import random_inputs
from pi0_ttnn_ros.bench.model import measure


def load_policy(checkpoint: Checkpoint, dtype: str) -> PI0Policy | PI05Policy:
    """Return LeRobot's policy with the checkpoint's weights, copied one by one to save memory."""
    # Initialising three billion weights would take minutes, and every weight is overwritten below.
    for initializer in ("kaiming_uniform_", "uniform_", "normal_", "trunc_normal_", "xavier_uniform_"):
        setattr(torch.nn.init, initializer, lambda tensor, *_, **__: tensor)
    pi05 = checkpoint.config.pi05
    policy_class, config_class = (PI05Policy, PI05Config) if pi05 else (PI0Policy, PI0Config)
    policy = policy_class(config_class(device="cpu", dtype=dtype)).eval()
    own = policy.state_dict(keep_vars=True)
    with safe_open(checkpoint.folder / "model.safetensors", framework="pt") as archive, torch.no_grad():
        names = set(archive.keys())
        if names != set(own):
            raise SystemExit(f"LeRobot's tensors are not the checkpoint's: {sorted(names ^ set(own))}")
        for name in names:
            own[name].copy_(archive.get_tensor(name))
    return policy


def main() -> None:
    """Measure LeRobot."""
    options = json.loads(sys.argv[1])
    checkpoint = open_checkpoint(options["checkpoint"])
    policy = load_policy(checkpoint, options["dtype"])
    arrays = {
        name: torch.from_numpy(array)
        for name, array in vars(random_inputs(checkpoint.config, options["cameras"])).items()
    }
    slots = range(checkpoint.config.num_cameras)
    images = [arrays["images"][:, slot] for slot in slots]
    masks = [arrays["image_masks"][:, slot] for slot in slots]
    state = () if checkpoint.config.pi05 else (arrays["state"],)

    @torch.no_grad()
    def infer(num_steps: int):
        return (
            policy.model.sample_actions(
                images,
                masks,
                arrays["tokens"].long(),
                arrays["token_mask"],
                *state,
                noise=arrays["noise"],
                num_steps=num_steps,
            )
            .float()
            .numpy()
        )

    name = f"LeRobot {lerobot.__version__} on {torch.get_num_threads()} threads"
    measure(name, infer, options["repeats"], Path(sys.argv[2]))


if __name__ == "__main__":
    main()
