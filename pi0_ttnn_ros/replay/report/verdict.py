"""The verdict on a replay: each threshold of the robot's YAML, checked and put into a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from typing import Any

from pi0_ttnn_ros.replay.report.summary import Summary
from pi0_ttnn_ros.replay.report.sums import NOT_FINITE
from pi0_ttnn_ros.replay.report.thresholds import FRACTION, Thresholds


@dataclass(frozen=True)
class Check:
    """One threshold, or a condition that always applies.

    Attributes:
        name: of the threshold or condition.
        passed: None: skipped, there is nothing to measure.
        value: in `unit`; None: skipped.
        threshold: in `unit`.
        unit: "rad (m)", "s", "fraction" (from 0 to 1) or "".
        sentence: the same in words.
    """

    name: str
    passed: bool | None
    value: float | None
    threshold: float
    unit: str
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """All checks; passed if none failed."""

    passed: bool
    checks: list[Check]


def judge(summary: Summary, thresholds: Thresholds) -> Verdict:
    """Return the verdict on the conditions that always apply and on each threshold."""
    always = [_compared(summary), _finite(summary), _commands(summary)]
    return combine_checks([*always, *(_check(each, summary, thresholds) for each in fields(Thresholds))])


def combine_checks(checks: Sequence[Check]) -> Verdict:
    """Return the verdict that follows from checks."""
    return Verdict(all(check.passed is not False for check in checks), list(checks))


def _compared(summary: Summary) -> Check:
    sentence = (
        f"{summary.predictions:,} predictions were made, {summary.compared_predictions:,} of them could be compared "
        f"with the recording."
    )
    return Check(
        "compared_predictions", summary.compared_predictions > 0, summary.compared_predictions, 1, "", sentence
    )


def _finite(summary: Summary) -> Check:
    count = summary.violations[NOT_FINITE].count
    undefined = summary.reference.undefined if summary.reference else 0
    sentence = "Every action is finite." if not count else f"{count:,} chunks have values that are not finite."
    if undefined:
        sentence += f" {undefined} chunks have no correlation with the reference's: they are not finite, or constant."
    return Check("finite", count + undefined == 0, count + undefined, 0, "", sentence)


def _commands(summary: Summary) -> Check:
    if summary.commands is None:
        return Check("commands", None, None, 0, "", "Commands of a running node: skipped, none were recorded.")
    broken = summary.commands.violations
    sentence = f"{summary.commands.count:,} trajectories of a running node were recorded, "
    sentence += "; ".join(f"{count} exceed {label}" for label, count in broken.items()) or "none exceeds a limit"
    return Check("commands", not broken, sum(broken.values()), 0, "", sentence + ".")


def _check(threshold: Field, summary: Summary, thresholds: Thresholds) -> Check:
    name, about = threshold.name, threshold.metadata
    value, limit, unit = _value(summary, about["value"]), getattr(thresholds, name), about["unit"]
    label = about["label"][0].upper() + about["label"][1:]
    if value is None:
        return Check(name, None, None, limit, unit, f"{label}: skipped, {about['absent']}.")
    least = name.startswith("min_")
    passed = value >= limit if least else value <= limit
    condition = f"at {'least' if least else 'most'} {in_words(limit, unit)} is {'required' if least else 'allowed'}"
    return Check(name, passed, value, limit, unit, f"{label}: {in_words(value, unit)}, {condition}.")


def in_words(value: float, unit: str) -> str:
    """Return a value with its unit, to three or four digits; fractions as percentages."""
    if unit == FRACTION:
        return f"{100 * value:.3g} %"
    if abs(value) >= 1000:
        return f"{value:,.0f} {unit}".strip()
    return f"{value:.3g} {unit}" if unit else f"{value:.4g}"


def _value(summary: Summary, path: str) -> float | None:
    """Return the value at a dotted path; None if something on the path is None."""
    found: Any = summary
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else getattr(found, name)
        if found is None:
            return None
    return float(found)
