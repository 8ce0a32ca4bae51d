"""Log lines for people to read and programs to search."""

from __future__ import annotations

import json
import re
import traceback

ErrorTypes = tuple[type[Exception], ...]


def log_line(text: str, **fields: object) -> str:
    """Return the text followed by its fields: `holding [event=stale_input input=joint_states]`.

    A value with anything but ASCII letters, digits and -_./: in it is quoted as in JSON.
    """
    return f"{text} [{' '.join(f'{name}={_value(value)}' for name, value in fields.items())}]"


def error_text(error: Exception, expected: ErrorTypes) -> str:
    """Return the text of an error, with its type unless it is one of the `expected` types."""
    return str(error) if isinstance(error, expected) else f"{type(error).__name__}: {error}"


def traceback_lines(error: Exception, expected: ErrorTypes) -> str:
    """Return the lines to log after an unforeseen error; nothing if it is one of the `expected` types."""
    return "" if isinstance(error, expected) else "\n" + "".join(traceback.format_exception(error)).rstrip()


def without_numbers(text: str) -> str:
    """Return a text that stays the same while the numbers in it change."""
    return re.sub(r"\d+", "", text)


def _value(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    plain = text and all(character.isascii() and (character.isalnum() or character in "-_./:") for character in text)
    return text if plain else json.dumps(text)
