"""What a check found, and how to read the files of the system."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# A level for each exit status: what is unknown is not a problem, and never guessed.
OK, UNKNOWN, WARNING, ERROR = "ok", "unknown", "warning", "error"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        subject: what was checked.
        level: ok, unknown, warning (it runs, but late, slowly or not at first) or error (the node on the ttnn backend
            cannot run).
        text: what was found.
        remedy: what to do about it; empty if there is nothing to do.
    """

    subject: str
    level: str
    text: str
    remedy: str = ""


def exit_status(findings: list[Finding]) -> int:
    """Return 0 without warnings or errors, 1 with a warning, 2 with an error."""
    levels = {finding.level for finding in findings}
    return 2 if ERROR in levels else 1 if WARNING in levels else 0


def read(file: Path) -> str:
    """Return what a file of the system says, without the white space around it; empty if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", text)))
