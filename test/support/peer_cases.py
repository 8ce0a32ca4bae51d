"""Small models and inputs, all from seeds, that a peer and we run alike. Imported by both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pi0_ttnn_core.configs import PI0, GemmaConfig, PI0Config, VisionConfig

SEED = 7
JOINTS = [f"{side}_{name}" for side in ("left", "right") for name in ("waist", "elbow", "gripper")]
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")

SMALL_PI0 = replace(
    PI0,
    vision=VisionConfig(width=48, depth=2, mlp_dim=80, num_heads=2, patch_size=14, image_size=56),
    prefix=GemmaConfig(width=40, depth=3, mlp_dim=96, num_heads=4, num_kv_heads=1, head_dim=16),
    expert=GemmaConfig(width=24, depth=3, mlp_dim=56, num_heads=4, num_kv_heads=1, head_dim=16),
    vocab_size=300,
)
SMALL = {"pi0": SMALL_PI0, "pi05": replace(SMALL_PI0, pi05=True, max_prompt_tokens=200)}


@dataclass(frozen=True)
class Case:
    """One call of the bare model: which cameras are there and how many tokens the prompt has, row by row."""

    cameras: tuple[tuple[bool, bool, bool], ...]
    tokens: tuple[int, ...]


ALL = (True, True, True)
CASES = {
    "three_cameras": Case((ALL,), (17,)),
    "one_camera": Case(((True, False, False),), (17,)),
    "without_base": Case(((False, True, True),), (17,)),
    "without_left_wrist": Case(((True, False, True),), (17,)),
    "without_right_wrist": Case(((True, True, False),), (17,)),
    "prompt_of_one": Case((ALL,), (1,)),
    "long_prompt": Case((ALL,), (60,)),
    "batch": Case((ALL, (True, False, True), (False, True, False)), (17, 1, 23)),
}
# The case whose inner results are compared too.
DETAILED = "batch"


def model_arrays(case: Case, config: PI0Config) -> dict[str, np.ndarray]:
    """Return the arrays of ModelInputs for a case."""
    random = np.random.default_rng([SEED, *case.tokens, *np.ravel(case.cameras).astype(int)])
    batch, length = len(case.tokens), max(case.tokens)
    size = config.vision.image_size
    return {
        "images": random.uniform(-1, 1, (batch, 3, 3, size, size)).astype(np.float32),
        "image_masks": np.array(case.cameras),
        "tokens": random.integers(3, config.vocab_size, (batch, length)).astype(np.int32),
        "token_mask": np.arange(length) < np.array(case.tokens)[:, None],
        "state": random.standard_normal((batch, config.action_dim)).astype(np.float32),
        "noise": random.standard_normal((batch, config.action_horizon, config.action_dim)).astype(np.float32),
    }


@dataclass(frozen=True)
class Raw:
    """One observation as a robot gives it."""

    sizes: dict[str, tuple[int, int]]
    task: str


RAW = {
    "three_cameras": Raw(dict.fromkeys(CAMERAS, (48, 64)), "fold the towel"),
    "portrait_and_landscape": Raw({"base_0_rgb": (61, 47), "left_wrist_0_rgb": (33, 90)}, "open_the drawer\n"),
    "only_a_wrist": Raw({"right_wrist_0_rgb": (56, 56)}, "  put the red_cube into the box and then push the box away"),
}


def raw_observation(name: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return uint8 images by camera, the state [joints], and the noise [horizon, action_dim]."""
    random = np.random.default_rng([SEED, len(name)])
    images = {camera: random.integers(0, 256, (*size, 3), np.uint8) for camera, size in RAW[name].sizes.items()}
    state = random.normal(0.3, 0.8, len(JOINTS)).astype(np.float32)
    noise = random.standard_normal((SMALL_PI0.action_horizon, SMALL_PI0.action_dim)).astype(np.float32)
    return images, state, noise


def statistics() -> dict[str, dict[str, np.ndarray]]:
    """Return statistics of state and action; the state's last joint never moved."""
    random = np.random.default_rng(SEED)
    features = {}
    for feature in ("observation.state", "action"):
        mean, std = random.normal(0, 1, len(JOINTS)), random.uniform(0.2, 2, len(JOINTS))
        values = {"mean": mean, "std": std, "q01": mean - 2 * std, "q99": mean + 2 * std}
        features[feature] = {name: vector.astype(np.float32) for name, vector in values.items()}
    features["observation.state"]["std"][-1] = 0.5
    features["observation.state"]["q99"][-1] = features["observation.state"]["q01"][-1]
    return features


RESIZED = 32
RESIZES = ((37, 101), (101, 37), (32, 32), (48, 64), (31, 33), (5, 3))


def resize_image(height: int, width: int) -> np.ndarray:
    """Return a uint8 image [height, width, 3]."""
    return np.random.default_rng([SEED, height, width]).integers(0, 256, (height, width, 3), np.uint8)
