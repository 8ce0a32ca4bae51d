"""Prompts in the formats of LeRobot and openpi, with a SentencePiece model that is trained here."""

from __future__ import annotations

import unittest
from dataclasses import replace

import numpy as np
import pytest
import sentencepiece

from pi0_ttnn_core.checkpoints.random_checkpoint import byte_tokenizer
from pi0_ttnn_core.configs import TINY, TINY_PI05
from pi0_ttnn_core.processing.tokenizer import PromptTokenizer, TokenizerError, discretize, find_tokenizer

TEXT = ["fold the towel", "pick up the red cube", "Task: open the drawer, State: 1 2 3;", "Action: 0 4 5 6 7 8 9"]
STATE = np.array([-1.0, 0.0, 0.999], np.float32)


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    """A small vocabulary with PaliGemma's options: unknown characters become bytes, no space is put before a text."""
    prefix = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20),
        model_prefix=str(prefix),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["\n"],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    processor.file = prefix.with_suffix(".model")
    return processor


def prompt(tokenizer: PromptTokenizer, instruction: str) -> list[int]:
    tokens, mask = tokenizer.encode(instruction, STATE)
    assert tokens.dtype == np.int32 and mask.dtype == np.bool_ and len(tokens) == len(mask)
    assert not tokens[~mask].any() and mask[: mask.sum()].all()
    return tokens[mask].tolist()


@pytest.mark.parametrize(
    ("instruction", "lerobot", "openpi"),
    [
        ("fold the towel", "fold the towel\n", "fold the towel"),
        ("fold the towel\n", "fold the towel\n", "fold the towel"),
        ("  pick up_the\nred cube ", "  pick up_the\nred cube \n", "pick up the red cube"),
    ],
)
def test_pi0_prompts(processor, instruction, lerobot, openpi):
    theirs = PromptTokenizer(processor.file, TINY, "lerobot")
    assert prompt(theirs, instruction) == processor.encode(lerobot, add_bos=True)
    theirs = PromptTokenizer(processor.file, TINY, "openpi")
    assert prompt(theirs, instruction) == processor.encode(openpi, add_bos=True) + processor.encode("\n")


@pytest.mark.parametrize("conventions", ["lerobot", "openpi"])
def test_pi05_prompt_holds_the_state(processor, conventions):
    tokenizer = PromptTokenizer(processor.file, TINY_PI05, conventions)
    expected = "Task: open the drawer, State: 0 128 255;\nAction: "
    assert prompt(tokenizer, " open_the\ndrawer ") == processor.encode(expected, add_bos=True)


def test_state_discretization():
    """PI0.5's 256 bins of the normalized state."""
    # 256 bins of 1/128 over [-1, 1). Edges belong to the bin above; values below -1 are in bin -1, as upstream.
    values = np.array([-1.01, -1.0, -1.0 + 1 / 128, -1e-9, 0.0, 1.0 - 1e-9, 1.0, 7.0])
    assert discretize(values).tolist() == [-1, 0, 1, 127, 128, 255, 255, 255]


def test_a_long_prompt_is_cut_off_with_a_warning(processor):
    tokenizer = PromptTokenizer(processor.file, TINY, "lerobot")
    text = "fold the towel and " * 20
    # Not caplog: it does not capture the loggers that ROS 2's launch, if loaded, creates.
    with unittest.TestCase().assertLogs("pi0_ttnn_core.processing.tokenizer", "WARNING") as logs:
        tokens = prompt(tokenizer, text)
        assert prompt(tokenizer, text) == tokens
    assert tokens == processor.encode(text + "\n", add_bos=True)[:48]
    (warning,) = logs.output  # an unchanged prompt is tokenized once
    assert "but the model takes 48: the prompt is truncated" in warning


def test_a_json_tokenizer_ignores_its_own_limit(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokens = prompt(PromptTokenizer(tmp_path / "tokenizer.json", TINY, "lerobot"), "fold the towel")
    assert len(tokens) == 1 + len("fold the towel\n") and tokens[0] == 2


def test_tokenizer_search_order(processor, tmp_path):
    """The places in which a tokenizer is looked for, and the error that lists them."""
    with pytest.raises(TokenizerError, match="Accept the licence of google/paligemma-3b-pt-224"):
        find_tokenizer(tmp_path, None)
    (tmp_path / "tokenizer").mkdir()
    inner = tmp_path / "tokenizer" / "tokenizer.json"
    byte_tokenizer().save(str(inner))
    assert find_tokenizer(tmp_path, None) == inner
    (tmp_path / "tokenizer.model").write_bytes(processor.file.read_bytes())
    assert find_tokenizer(tmp_path, None) == tmp_path / "tokenizer.model"
    assert find_tokenizer(tmp_path, processor.file) == processor.file
    assert find_tokenizer(tmp_path, processor.file.parent) == processor.file
    with pytest.raises(TokenizerError, match="nowhere"):
        find_tokenizer(tmp_path, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_a_damaged_tokenizer_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(TokenizerError, match=f"{name} is damaged"):
        PromptTokenizer(tmp_path / name, TINY, "lerobot")


def test_a_tokenizer_of_another_model_is_refused(processor):
    with pytest.raises(TokenizerError, match="330 tokens, the model only 300"):
        PromptTokenizer(processor.file, replace(TINY, vocab_size=300), "lerobot")
