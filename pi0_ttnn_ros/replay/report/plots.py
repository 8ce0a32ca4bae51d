"""Plots as data for the page: paths in a square of 1000 by 1000 that is stretched, labels by their place in percent.

The page draws a path as SVG that fills its box and writes the labels as text beside it: so lines and letters keep
their size from a phone to a wide screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SIZE = 1000
STEPS = (1, 2, 2.5, 5)


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`; ticks: how far along in percent, and the text there."""

    label: str
    low: float
    high: float
    ticks: list[tuple[float, str]]

    def place(self, value: float) -> float:
        """Return how far along `value` is, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Mark:
    """A dot, or with `vertical` a line from top to bottom, at x and y in percent; it leads to `link`."""

    x: float
    y: float
    text: str
    link: str = ""
    vertical: bool = False


@dataclass(frozen=True)
class Plot:
    """paths: the class that styles it and its SVG path, in the order they are drawn; legend: class and text."""

    title: str
    x: Axis
    y: Axis
    paths: list[tuple[str, str]]
    note: str = ""
    legend: list[tuple[str, str]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


def axis(label: str, low: float, high: float, parts: int = 3, whole: bool = False) -> Axis:
    """Return an axis with round (or `whole`) numbers on it, that divide it into so many parts at least."""
    if high <= low:
        high = low + 1.0
    rough = max((high - low) / parts, 1.0 if whole else 0.0)
    power = 10 ** math.floor(math.log10(rough))
    steps = [step * power for step in STEPS if step * power <= rough * (1 + 1e-9)]
    step = max(step for step in steps if not whole or step == round(step))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9) + (step == 2.5 * power))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [index * step for index in range(first, last + 1)]
    return Axis(label, low, high, [(100 * (value - low) / (high - low), f"{value:.{decimals}f}") for value in values])


def line(x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float | None]) -> str:
    """Return the path through the points; it breaks where a value is None."""
    parts, pen = [], "M"
    for at, value in zip(xs, ys, strict=True):
        if value is None:
            pen = "M"
            continue
        parts.append(f"{pen}{_x(x, at)} {_y(y, value)}")
        pen = "L"
    return "".join(parts)


def area(x: Axis, y: Axis, xs: Sequence[float], lower: Sequence[float], upper: Sequence[float]) -> str:
    """Return the path around what lies between two lines."""
    return line(x, y, [*xs, *reversed(xs)], [*upper, *reversed(lower)]) + "Z"


def level(y: Axis, value: float) -> str:
    """Return the path of a line from left to right."""
    return f"M0 {_y(y, value)}H{SIZE}"


def bars(x: Axis, y: Axis, edges: Sequence[float], heights: Sequence[float]) -> str:
    """Return the path of a bar from each edge to the next."""
    parts = []
    for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
        if height:
            parts.append(f"M{_x(x, left) + 1} {SIZE}V{_y(y, height)}H{max(_x(x, right) - 1, _x(x, left) + 2)}V{SIZE}Z")
    return "".join(parts)


def _x(axis: Axis, value: float) -> int:
    return round(SIZE * axis.place(value))


def _y(axis: Axis, value: float) -> int:
    # Far outside it need not be exact, and must not become a long number.
    return round(SIZE * (1 - min(max(axis.place(value), -2.0), 3.0)))
