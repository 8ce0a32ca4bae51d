"""Plots as data for the page: paths in a square of 1000 by 1000, and labels with their places in percent.

The page stretches the paths, as SVG, to fill a box, and writes the labels as text beside it: lines and letters keep
their size on a phone and on a wide screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SIZE = 1000
STEPS = (1, 2, 2.5, 5)


@dataclass(frozen=True)
class Axis:
    """One axis of a plot.

    Attributes:
        label: quantity and unit.
        low: value at its beginning.
        high: value at its end.
        ticks: place in percent, and text.
    """

    label: str
    low: float
    high: float
    ticks: list[tuple[float, str]]

    def place(self, value: float) -> float:
        """Return the place of a value, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Mark:
    """A labelled dot or line in a plot.

    Attributes:
        x: place in percent.
        y: place in percent; of a line, that of its label.
        text: label.
        vertical: whether it is a line from top to bottom.
    """

    x: float
    y: float
    text: str
    vertical: bool = False


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        title: above it.
        x: horizontal axis.
        y: vertical axis.
        paths: CSS class and SVG path, in the order they are drawn.
        note: beside the title.
        legend: CSS class and text.
        marks: on top of the paths.
    """

    title: str
    x: Axis
    y: Axis
    paths: list[tuple[str, str]]
    note: str = ""
    legend: list[tuple[str, str]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


def axis(label: str, low: float, high: float, parts: int = 3, whole: bool = False) -> Axis:
    """Return an axis with round (or `whole`) numbers that divide it into at least `parts` parts."""
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
    """Return the path through points, with a gap where a value is None."""
    parts, pen = [], "M"
    for at, value in zip(xs, ys, strict=True):
        if value is None:
            pen = "M"
            continue
        parts.append(f"{pen}{_x(x, at)} {_y(y, value)}")
        pen = "L"
    return "".join(parts)


def area(x: Axis, y: Axis, xs: Sequence[float], lower: Sequence[float], upper: Sequence[float]) -> str:
    """Return the path around the area between two lines."""
    return line(x, y, [*xs, *reversed(xs)], [*upper, *reversed(lower)]) + "Z"


def level(y: Axis, value: float) -> str:
    """Return the path of a horizontal line across the plot."""
    return f"M0 {_y(y, value)}H{SIZE}"


def bars(x: Axis, y: Axis, edges: Sequence[float], heights: Sequence[float]) -> str:
    """Return the path of bars, each from one edge to the next."""
    parts = []
    for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
        if height:
            parts.append(f"M{_x(x, left) + 1} {SIZE}V{_y(y, height)}H{max(_x(x, right) - 1, _x(x, left) + 2)}V{SIZE}Z")
    return "".join(parts)


def _x(axis: Axis, value: float) -> int:
    return round(SIZE * axis.place(value))


def _y(axis: Axis, value: float) -> int:
    # Clipped far outside the box, where long numbers would only enlarge the page.
    return round(SIZE * (1 - min(max(axis.place(value), -2.0), 3.0)))
