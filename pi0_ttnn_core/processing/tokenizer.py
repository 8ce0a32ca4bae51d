"""Turn an instruction (for PI0.5, with the state) into token ids, with a PaliGemma tokenizer from a local file.

Prompts are those of LeRobot 0.6.1 (policies/pi0, pi05: processors) or openpi (models/tokenizer.py, PaligemmaTokenizer).
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from pi0_ttnn_core.checkpoints.files import JSON_FILE, SENTENCEPIECE_FILE
from pi0_ttnn_core.configs import PI0Config

STATE_BINS = 256

logger = logging.getLogger(__name__)


class TokenizerError(ValueError):
    """A tokenizer that cannot be used; the message names the file and the remedy."""


class Encoder(Protocol):
    """A tokenizer.

    Attributes:
        vocab_size: number of tokens.
    """

    vocab_size: int

    def encode(self, text: str, bos: bool) -> list[int]:
        """Return the ids of `text`, preceded by that of <bos> if `bos`."""
        ...


class SentencePieceEncoder:
    """PaliGemma's tokenizer.model, see `Encoder`."""

    def __init__(self, file: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor(model_file=str(file))
        self.vocab_size = self._processor.vocab_size()

    def encode(self, text: str, bos: bool) -> list[int]:
        """Return the ids of `text`, preceded by that of <bos> if `bos`."""
        return list(self._processor.encode(text, add_bos=bos))


class JsonEncoder:
    """The same vocabulary in Hugging Face's tokenizer.json, whose post-processor adds <bos>; see `Encoder`."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))
        # A limit or padding stored in the file would be applied before ours.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size = self._tokenizer.get_vocab_size()

    def encode(self, text: str, bos: bool) -> list[int]:
        """Return the ids of `text`, preceded by that of <bos> if `bos`."""
        return list(self._tokenizer.encode(text, add_special_tokens=bos).ids)


class PromptTokenizer:
    """Turns an instruction into the prompt's tokens, by the conventions of LeRobot or openpi."""

    def __init__(self, file: Path, config: PI0Config, conventions: str) -> None:
        """Load a tokenizer's file; `conventions` is "lerobot" or "openpi".

        Raises:
            TokenizerError: the file is damaged or belongs to another model.
        """
        try:
            self._encoder: Encoder = SentencePieceEncoder(file) if file.suffix == ".model" else JsonEncoder(file)
        except Exception as error:  # the libraries raise bare Exception and RuntimeError
            raise TokenizerError(f"{file} is damaged ({error}): download it again") from error
        if self._encoder.vocab_size > config.vocab_size:
            raise TokenizerError(
                f"{file} has {self._encoder.vocab_size} tokens, the model only {config.vocab_size}: "
                "it belongs to another model"
            )
        self._pi05 = config.pi05
        self._max_tokens = config.max_prompt_tokens
        self._conventions = conventions
        # An instruction is the same for many inferences, and one of a megabyte takes a second.
        self._prompt_ids = lru_cache(maxsize=1)(self._ids)

    def encode(self, instruction: str, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the prompt's tokens, int32 [max_prompt_tokens], and their mask, bool [max_prompt_tokens].

        `state` [joints], normalised, is part of PI0.5's prompt. A longer prompt is truncated, with a warning.
        """
        bins = " ".join(map(str, discretize(state))) if self._pi05 else ""
        ids = self._prompt_ids(instruction, bins)
        tokens = np.zeros(self._max_tokens, np.int32)
        tokens[: len(ids)] = ids
        return tokens, np.arange(self._max_tokens) < len(ids)

    def _ids(self, instruction: str, bins: str) -> list[int]:
        ids = self._whole_ids(instruction, bins)
        if len(ids) > self._max_tokens:
            logger.warning(
                "the prompt has %d tokens, but the model takes %d: the prompt is truncated", len(ids), self._max_tokens
            )
        return ids[: self._max_tokens]

    def _whole_ids(self, instruction: str, bins: str) -> list[int]:
        cleaned = instruction.strip().replace("_", " ").replace("\n", " ")
        if self._pi05:
            return self._encoder.encode(f"Task: {cleaned}, State: {bins};\nAction: ", bos=True)
        if self._conventions == "openpi":
            return self._encoder.encode(cleaned, bos=True) + self._encoder.encode("\n", bos=False)
        return self._encoder.encode(instruction if instruction.endswith("\n") else instruction + "\n", bos=True)

    def __str__(self) -> str:
        if self._pi05:
            return f'prompt: "Task: .., State: {STATE_BINS} bins;\\nAction: ", {self._max_tokens} tokens'
        cleaned = "cleaned instruction" if self._conventions == "openpi" else "instruction as it is"
        return f"prompt: {cleaned} and newline, {self._max_tokens} tokens"


def discretize(state: np.ndarray) -> np.ndarray:
    """Return the bin of each value, 0..255 over [-1, 1]; values below -1 are in bin -1, as in LeRobot and openpi."""
    return np.digitize(state, np.linspace(-1, 1, STATE_BINS + 1)[:-1]) - 1


def find_tokenizer(folder: Path, given: Path | None) -> Path:
    """Return the tokenizer's file: `given`, which may be a file or a folder, or the one in the checkpoint's folder.

    Raises:
        TokenizerError: there is none; the message says how to get it.
    """
    if given is not None and given.is_file():
        return given
    folders = [given] if given is not None else [folder, folder / "tokenizer"]
    for candidate in folders:
        for name in (SENTENCEPIECE_FILE, JSON_FILE):
            if (candidate / name).is_file():
                return candidate / name
    raise TokenizerError(
        f"no {SENTENCEPIECE_FILE} or {JSON_FILE} in {folders[0]}: it is PaliGemma's, licensed by Google, and not part "
        "of this package. Accept the licence of google/paligemma-3b-pt-224 on Hugging Face, download that file, and "
        "put it there or name it in the parameter tokenizer"
    )
