"""LeRobot's PI0 and PI0.5 policies at the sizes of our small models, with our random weights.

LeRobot's code fixes the sizes of the models. Only the constructor that does so is replaced here; everything that
computes is LeRobot's.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.common import vla_utils
from lerobot.policies.pi0 import configuration_pi0, modeling_pi0, processor_pi0
from lerobot.policies.pi05 import configuration_pi05, modeling_pi05, processor_pi05
from lerobot.policies.pi_gemma import PaliGemmaForConditionalGenerationWithPiGemma, PiGemmaForCausalLM
from lerobot.processor import tokenizer_processor
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast

from pi0_ttnn_core.checkpoints.random_checkpoint import byte_tokenizer, write_weights
from pi0_ttnn_core.configs import GemmaConfig, PI0Config
from support.peer_cases import CAMERAS, JOINTS, RESIZED, SEED, Case, model_arrays, raw_observation, statistics
from support.peer_cases import RAW as RAW_OBSERVATIONS

MODULES = {
    "pi0": (modeling_pi0, modeling_pi0.PI0Policy, configuration_pi0.PI0Config),
    "pi05": (modeling_pi05, modeling_pi05.PI05Policy, configuration_pi05.PI05Config),
}
PIPELINES = {
    "pi0": processor_pi0.make_pi0_pre_post_processors,
    "pi05": processor_pi05.make_pi05_pre_post_processors,
}


class LeRobotPeer:
    """One policy of LeRobot, which itself saves its config and pipelines into `folder`."""

    def __init__(self, family: str, config: PI0Config, folder: Path) -> None:
        self.config = config
        module, policy_class, config_class = MODULES[family]
        _use_small_sizes(module, config)
        self.settings = _settings(config_class, config)
        self.policy = policy_class(self.settings).eval()
        _load_weights(self.policy, config, folder)
        self.preprocessor, self.postprocessor = _pipelines(family, self.settings)
        self.settings._save_pretrained(folder)
        self.preprocessor.save_pretrained(folder, config_filename="policy_preprocessor.json")
        self.postprocessor.save_pretrained(folder, config_filename="policy_postprocessor.json")

    @torch.no_grad()
    def run(self, case: Case, detailed: bool) -> dict[str, np.ndarray]:
        """Return actions and first velocity of a case, and the intermediate results if `detailed`."""
        arrays = {name: torch.from_numpy(array) for name, array in model_arrays(case, self.config).items()}
        images = [arrays["images"][:, slot] for slot in range(3)]
        masks = [arrays["image_masks"][:, slot] for slot in range(3)]
        prompt = (arrays["tokens"].long(), arrays["token_mask"])
        state = () if self.config.pi05 else (arrays["state"],)
        model = self.policy.model
        steps: list[tuple[Any, torch.Tensor]] = []
        denoise_step = model.denoise_step

        def recorded(*args: Any, **kwargs: Any) -> torch.Tensor:
            cache = copy.deepcopy(kwargs["past_key_values"])
            velocity = denoise_step(*args, **kwargs)
            steps.append((cache, velocity.clone()))
            return velocity

        model.denoise_step = recorded
        try:
            actions = model.sample_actions(images, masks, *prompt, *state, noise=arrays["noise"])
        finally:
            model.denoise_step = denoise_step
        cache, velocity = steps[0]
        results = {"actions": actions, "velocity": velocity}
        if detailed:
            embedded, _, _ = model.embed_prefix(images, masks, *prompt)
            results["images"] = torch.stack([model.paligemma_with_expert.embed_image(image) for image in images], 1)
            results["prefix"] = embedded
            results["keys"] = torch.stack([layer.keys for layer in cache.layers])
            results["values"] = torch.stack([layer.values for layer in cache.layers])
        return {name: result.numpy() for name, result in results.items()}

    @torch.no_grad()
    def run_raw(self, name: str) -> np.ndarray:
        """Return the actions in the robot's units for a raw observation, through LeRobot's pipelines."""
        images, state, noise = raw_observation(name)
        batch: dict[str, Any] = {
            f"observation.images.{camera}": torch.from_numpy(image).permute(2, 0, 1).float() / 255.0
            for camera, image in images.items()
        }
        batch["observation.state"] = torch.from_numpy(state)
        batch["task"] = RAW_OBSERVATIONS[name].task
        actions = self.policy.predict_action_chunk(self.preprocessor(batch), noise=torch.from_numpy(noise)[None])
        return self.postprocessor(actions)[0].numpy()

    @staticmethod
    def resize(image: np.ndarray) -> np.ndarray:
        """Return a uint8 image [height, width, 3], resized as in LeRobot's policies, float32 in [0, 1]."""
        pixels = torch.from_numpy(image)[None].float() / 255.0
        return vla_utils.resize_with_pad_torch(pixels, RESIZED, RESIZED)[0].numpy()


def _use_small_sizes(module: Any, config: PI0Config) -> None:
    base = module.PaliGemmaWithExpertModel

    class Small(base):
        def __init__(self, *_: Any, **__: Any) -> None:
            torch.nn.Module.__init__(self)
            self.freeze_vision_encoder = self.train_expert_only = False
            self.paligemma = PaliGemmaForConditionalGenerationWithPiGemma(config=_paligemma_config(config))
            self.gemma_expert = PiGemmaForCausalLM(config=_gemma_config(config.expert, config, config.pi05))
            self.gemma_expert.model.embed_tokens = None
            self.to_bfloat16_for_selected_params("float32")

    module.PaliGemmaWithExpertModel = Small
    sizes = {"gemma_2b": config.prefix, "gemma_300m": config.expert}
    module.get_gemma_config = lambda variant: module.GemmaConfig(**vars(sizes[variant]))


def _paligemma_config(config: PI0Config) -> Any:
    theirs = CONFIG_MAPPING["paligemma"]()
    theirs.text_config = _gemma_config(config.prefix, config, adaptive=False)
    theirs._vocab_size = theirs.image_token_index = config.vocab_size
    theirs.projection_dim = theirs.hidden_size = config.prefix.width
    vision = theirs.vision_config
    vision.hidden_size, vision.intermediate_size = config.vision.width, config.vision.mlp_dim
    vision.num_hidden_layers, vision.num_attention_heads = config.vision.depth, config.vision.num_heads
    vision.image_size, vision.patch_size = config.vision.image_size, config.vision.patch_size
    vision.projection_dim = config.prefix.width
    vision.projector_hidden_act = "gelu_fast"
    return theirs


def _gemma_config(sizes: GemmaConfig, config: PI0Config, adaptive: bool) -> Any:
    return CONFIG_MAPPING["gemma"](
        head_dim=sizes.head_dim,
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp_dim,
        num_attention_heads=sizes.num_heads,
        num_hidden_layers=sizes.depth,
        num_key_value_heads=sizes.num_kv_heads,
        vocab_size=config.vocab_size,
        hidden_activation="gelu_pytorch_tanh",
        dtype="float32",
        use_adarms=adaptive,
        adarms_cond_dim=sizes.width if adaptive else None,
    )


def _settings(config_class: Any, config: PI0Config) -> Any:
    size = config.vision.image_size
    settings = config_class(
        device="cpu",
        chunk_size=config.action_horizon,
        n_action_steps=config.action_horizon,
        image_resolution=(size, size),
        tokenizer_max_length=config.max_prompt_tokens,
        use_relative_actions=True,
        relative_exclude_joints=["gripper"],
        action_feature_names=JOINTS,
    )
    settings.input_features = {
        f"observation.images.{camera}": PolicyFeature(FeatureType.VISUAL, (3, size, size)) for camera in CAMERAS
    } | {"observation.state": PolicyFeature(FeatureType.STATE, (len(JOINTS),))}
    settings.output_features = {"action": PolicyFeature(FeatureType.ACTION, (len(JOINTS),))}
    return settings


def _load_weights(policy: Any, config: PI0Config, folder: Path) -> None:
    file = folder / "model.safetensors"
    write_weights(config, file, SEED, "float32")
    tensors = load_file(file)
    file.unlink()
    missing, unexpected = policy.load_state_dict(tensors, strict=False)
    if missing or unexpected:
        raise SystemExit(f"LeRobot's tensors differ from ours: missing {missing}, unexpected {unexpected}")


def _pipelines(family: str, settings: Any) -> tuple[Any, Any]:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )

    class Local:
        """A tokenizer of bytes in place of PaliGemma's, whose licence has to be accepted."""

        @staticmethod
        def from_pretrained(*_: Any, **__: Any) -> PreTrainedTokenizerFast:
            return tokenizer

    tokenizer_processor.AutoTokenizer = Local
    features = {
        feature: {name: torch.from_numpy(vector) for name, vector in values.items()}
        for feature, values in statistics().items()
    }
    return PIPELINES[family](settings, features)
