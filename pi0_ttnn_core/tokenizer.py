"""Instruction -> token ids, with the tokenizer that lies in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"


class TokenizerError(ValueError):
    """A tokenizer that cannot be used; the message names the file and the remedy."""


class PromptTokenizer:
    """Turns an instruction into the prompt's tokens: instruction and newline, as LeRobot does for PI0."""

    def __init__(self, folder: Path, vocab_size: int, num_tokens: int) -> None:
        file = folder / TOKENIZER_FILE
        if not file.exists():
            raise TokenizerError(
                f"{file} is missing: put PaliGemma's tokenizer.json there (accept Google's licence on Hugging Face, "
                "google/paligemma-3b-pt-224, and download that file)"
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"{file} is damaged ({error}): download it again") from error
        if self._tokenizer.get_vocab_size() > vocab_size:
            raise TokenizerError(
                f"{file} has {self._tokenizer.get_vocab_size()} tokens, the model only {vocab_size}: "
                "it belongs to another model"
            )
        self._num_tokens = num_tokens

    def encode(self, instruction: str) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens int32 [num_tokens] and their mask bool [num_tokens]; a longer prompt is cut off."""
        prompt = instruction if instruction.endswith("\n") else instruction + "\n"
        ids = self._tokenizer.encode(prompt).ids[: self._num_tokens]
        tokens = np.zeros(self._num_tokens, np.int32)
        tokens[: len(ids)] = ids
        return tokens, np.arange(self._num_tokens) < len(ids)
