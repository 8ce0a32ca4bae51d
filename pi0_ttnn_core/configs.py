"""Sizes of the PI0 models, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any


class ConfigError(ValueError):
    """An invalid model configuration; the message names the value."""


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the SigLIP vision tower.

    Attributes:
        width: size of the hidden states.
        depth: number of transformer blocks.
        mlp_dim: hidden size of the MLPs.
        num_heads: number of attention heads.
        patch_size: side of a patch, pixels.
        image_size: side of the square input image, pixels.
    """

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    patch_size: int
    image_size: int

    @property
    def head_dim(self) -> int:
        """Size of one attention head."""
        return self.width // self.num_heads

    @property
    def num_patches(self) -> int:
        """Number of tokens of one camera image."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class GemmaConfig:
    """Sizes of one Gemma transformer: the prefix or the action expert.

    Attributes:
        width: size of the hidden states.
        depth: number of decoder blocks.
        mlp_dim: hidden size of the MLPs.
        num_heads: number of query heads.
        num_kv_heads: number of key and value heads, a divisor of `num_heads`.
        head_dim: size of one head.
    """

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int


def _problems(vision: VisionConfig, prefix: GemmaConfig, expert: GemmaConfig) -> list[str]:
    problems = []
    if vision.width % vision.num_heads:
        problems.append(f"vision.width {vision.width} is not a multiple of vision.num_heads {vision.num_heads}")
    if vision.image_size % vision.patch_size:
        problems.append(f"vision.image_size {vision.image_size} is not a multiple of patch_size {vision.patch_size}")
    for name in ("depth", "num_heads", "num_kv_heads", "head_dim"):
        if getattr(prefix, name) != getattr(expert, name):
            problems.append(
                f"prefix.{name} {getattr(prefix, name)} and expert.{name} {getattr(expert, name)} must be equal: "
                "the expert attends to the prefix's keys and values layer by layer"
            )
    if prefix.num_heads % prefix.num_kv_heads:
        problems.append(f"num_heads {prefix.num_heads} is not a multiple of num_kv_heads {prefix.num_kv_heads}")
    if prefix.head_dim % 2:
        problems.append(f"head_dim {prefix.head_dim} must be even for rotary embeddings")
    if expert.width % 2:
        problems.append(f"expert.width {expert.width} must be even for the time embedding")
    return problems


@dataclass(frozen=True)
class PI0Config:
    """Sizes of one PI0 or PI0.5 model.

    PI0 has a token for the state and fuses actions and time in an MLP. PI0.5 has the state in its prompt, and the time
    modulates every norm of the expert.

    Attributes:
        vision: the SigLIP vision tower.
        prefix: the Gemma transformer of the prefix: images and prompt.
        expert: the Gemma transformer of the suffix: state and actions.
        pi05: whether this is PI0.5.
        vocab_size: number of tokens in PaliGemma's vocabulary.
        action_dim: values of an action, padded; also the size of the padded state.
        action_horizon: actions in a chunk.
        max_prompt_tokens: prompt tokens; a longer prompt is truncated.
        num_cameras: camera slots.
        num_steps: Euler steps, by default.
        min_period: shortest period of the time embedding.
        max_period: longest period of the time embedding.
    """

    vision: VisionConfig
    prefix: GemmaConfig
    expert: GemmaConfig
    pi05: bool = False
    vocab_size: int = 257152
    action_dim: int = 32
    action_horizon: int = 50
    max_prompt_tokens: int = 48
    num_cameras: int = 3
    num_steps: int = 10
    min_period: float = 4e-3
    max_period: float = 4.0

    @property
    def num_state_tokens(self) -> int:
        """Number of suffix tokens before the actions."""
        return 0 if self.pi05 else 1

    @property
    def family(self) -> str:
        """Name of the model family."""
        return "PI0.5" if self.pi05 else "PI0"

    def __post_init__(self) -> None:
        problems = _problems(self.vision, self.prefix, self.expert)
        if problems:
            raise ConfigError("; ".join(problems))


PI0 = PI0Config(
    vision=VisionConfig(width=1152, depth=27, mlp_dim=4304, num_heads=16, patch_size=14, image_size=224),
    prefix=GemmaConfig(width=2048, depth=18, mlp_dim=16384, num_heads=8, num_kv_heads=1, head_dim=256),
    expert=GemmaConfig(width=1024, depth=18, mlp_dim=4096, num_heads=8, num_kv_heads=1, head_dim=256),
)

# Awkward on purpose, like the real model: a head dimension of 72, and an MLP size that is not a multiple of 32.
TINY = replace(
    PI0,
    vision=VisionConfig(width=144, depth=2, mlp_dim=272, num_heads=2, patch_size=28, image_size=224),
    prefix=GemmaConfig(width=128, depth=3, mlp_dim=256, num_heads=4, num_kv_heads=1, head_dim=64),
    expert=GemmaConfig(width=96, depth=3, mlp_dim=192, num_heads=4, num_kv_heads=1, head_dim=64),
    vocab_size=512,
)

PI05 = replace(PI0, pi05=True, max_prompt_tokens=200)
TINY_PI05 = replace(TINY, pi05=True, max_prompt_tokens=200)

# Scalar sizes in a checkpoint's `architecture` section, and the fields of PI0Config that they set.
SCALARS = {"vocab_size": "vocab_size", "action_dim": "action_dim", "horizon": "action_horizon"}

CONFIGS = {"tiny": TINY, "tiny_pi05": TINY_PI05, "pi0": PI0, "pi05": PI05}


def config_from_architecture(architecture: dict[str, Any], base: PI0Config = PI0) -> PI0Config:
    """Return `base` with the sizes from a checkpoint's `architecture` section.

    Raises:
        ConfigError: a size is missing, unknown, not a positive integer, or inconsistent with the others.
    """
    sections: dict[str, type[VisionConfig] | type[GemmaConfig]] = {
        "vision": VisionConfig,
        "prefix": GemmaConfig,
        "expert": GemmaConfig,
    }
    _check_keys("architecture", architecture, [*sections, *SCALARS])
    parts: dict[str, Any] = {}
    for name, kind in sections.items():
        sizes = architecture[name]
        if not isinstance(sizes, dict):
            raise ConfigError(f"architecture.{name} must be a mapping of sizes, not {sizes!r}")
        _check_keys(f"architecture.{name}", sizes, [size.name for size in fields(kind)])
        parts[name] = kind(**{key: _size(f"architecture.{name}.{key}", value) for key, value in sizes.items()})
    for name, field in SCALARS.items():
        parts[field] = _size(f"architecture.{name}", architecture[name])
    return replace(base, **parts)


def architecture_of(config: PI0Config) -> dict[str, Any]:
    """Return the `architecture` section that describes `config`."""
    sizes = asdict(config)
    networks = {key: sizes[key] for key in ("vision", "prefix", "expert")}
    return networks | {name: sizes[field] for name, field in SCALARS.items()}


def _check_keys(where: str, mapping: dict[str, Any], expected: list[str]) -> None:
    missing = [key for key in expected if key not in mapping]
    unknown = [key for key in mapping if key not in expected]
    if missing or unknown:
        raise ConfigError(f"{where}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")


def _size(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{where} must be a positive integer, not {value!r}")
    return value
