"""Log lines that people read and programs can search."""

from __future__ import annotations

import json


def log_line(text: str, **fields: object) -> str:
    """Return the text with fields behind it: `the robot holds [event=stale_input input=joint_states]`.

    A value with anything but ASCII letters, digits and -_./: in it is quoted as in JSON.
    """
    return f"{text} [{' '.join(f'{name}={_value(value)}' for name, value in fields.items())}]"


def _value(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    plain = text and all(character.isascii() and (character.isalnum() or character in "-_./:") for character in text)
    return text if plain else json.dumps(text)
