"""The parameters as tables for the documentation."""

from __future__ import annotations

from pi0_ttnn_ros.parameters.declarations import Declaration
from pi0_ttnn_ros.parameters.parameters import all_declarations

NAMES = {"cameras": ["<camera>"], "joint_names": ["<joint>"], "controllers": ["<controller>"]}
HEADER = ("| parameter | type | default | range | live | meaning |", "| --- | --- | --- | --- | --- | --- |")


def markdown_table() -> str:
    """Return a table of each group of parameters, under a heading of the third level."""
    lines: list[str] = []
    for declaration in all_declarations(NAMES):
        if declaration.group:
            lines += ["", f"### {declaration.group}", "", *HEADER]
        lines.append(_row(declaration))
    return "\n".join(lines[1:]) + "\n"


def _row(declaration: Declaration) -> str:
    default = "" if declaration.default in (None, "", []) else f"`{declaration.default}`"
    bounds = f"{declaration.bounds[0]:g} to {declaration.bounds[1]:g}" if declaration.bounds else ""
    cells = (declaration.type, default, bounds, "yes" if declaration.live else "", declaration.description)
    return f"| `{declaration.name}` | " + " | ".join(cells) + " |"
