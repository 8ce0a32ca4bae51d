"""Instruction (and state, for PI0.5) -> token ids, with a PaliGemma tokenizer from a local file.

Prompts as in LeRobot 0.6.1 (policies/pi0, pi05: processors) and openpi (models/tokenizer.py, PaligemmaTokenizer).
"""

from __future__ import annotations

import logging
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
    """A vocabulary."""

    vocab_size: int

    def encode(self, text: str, bos: bool) -> list[int]:
        """Return the ids of `text`, after the one that begins a sequence if `bos`."""
        ...


class SentencePieceEncoder:
    """PaliGemma's tokenizer.model."""

    def __init__(self, file: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor(model_file=str(file))
        self.vocab_size = self._processor.vocab_size()

    def encode(self, text: str, bos: bool) -> list[int]:
        return list(self._processor.encode(text, add_bos=bos))


class JsonEncoder:
    """The same vocabulary in Hugging Face's tokenizer.json, whose post-processor puts <bos> first."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))
        # A limit or padding stored in the file would come before ours.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size = self._tokenizer.get_vocab_size()

    def encode(self, text: str, bos: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=bos).ids)


class PromptTokenizer:
    """Turns an instruction into the prompt's tokens, by the conventions of one peer."""

    def __init__(self, file: Path, config: PI0Config, conventions: str) -> None:
        """Take a tokenizer's file, and "lerobot" or "openpi".

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

    def encode(self, instruction: str, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the prompt's tokens, int32 [max_prompt_tokens], and their mask, bool [max_prompt_tokens].

        `state` [joints], normalised, is part of PI0.5's prompt. A longer prompt is cut off, with a warning.
        """
        ids = self._ids(instruction, state)
        if len(ids) > self._max_tokens:
            logger.warning(
                "the prompt has %d tokens and the model takes %d: its end is cut off", len(ids), self._max_tokens
            )
            ids = ids[: self._max_tokens]
        tokens = np.zeros(self._max_tokens, np.int32)
        tokens[: len(ids)] = ids
        return tokens, np.arange(self._max_tokens) < len(ids)

    def _ids(self, instruction: str, state: np.ndarray) -> list[int]:
        cleaned = instruction.strip().replace("_", " ").replace("\n", " ")
        if self._pi05:
            bins = " ".join(map(str, discretize(state)))
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
    """Return the bin of each value, 0..255 over [-1, 1]; as in the peers, what lies below -1 is in bin -1."""
    return np.digitize(state, np.linspace(-1, 1, STATE_BINS + 1)[:-1]) - 1


def find_tokenizer(folder: Path, given: Path | None) -> Path:
    """Return the tokenizer's file: `given` (file or folder), or the one in the checkpoint's folder.

    Raises:
        TokenizerError: there is none; the message says how to get it.
    """
    if given is not None and given.is_file():
        return given
    places = [given] if given is not None else [folder, folder / "tokenizer"]
    for place in places:
        for name in (SENTENCEPIECE_FILE, JSON_FILE):
            if (place / name).is_file():
                return place / name
    raise TokenizerError(
        f"no {SENTENCEPIECE_FILE} or {JSON_FILE} in {places[0]}: it is PaliGemma's, licensed by Google and not ours to "
        "ship. Accept the licence of google/paligemma-3b-pt-224 on Hugging Face, download that file, and put it there "
        "or name it in the parameter tokenizer"
    )
