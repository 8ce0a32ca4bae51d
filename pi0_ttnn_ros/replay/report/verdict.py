"""Whether a policy may be trusted with an arm, by its replay: thresholds from the robot's YAML, a sentence for each.

The YAML is the node's; what is for the replay stands in its section `replay`, which the node does not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from typing import Any

from pi0_ttnn_ros.replay.report.summary import Summary
from pi0_ttnn_ros.replay.report.sums import NOT_FINITE
from pi0_ttnn_ros.replay.report.thresholds import FRACTION, Thresholds


@dataclass(frozen=True)
class Check:
    """One threshold.

    name: that of the threshold, or of a condition that always holds
    passed: None: it was skipped, because there is nothing to measure
    value, threshold: in `unit`: "rad (m)", "s", "fraction" (from 0 to 1) or none
    sentence: the same in words
    """

    name: str
    passed: bool | None
    value: float | None
    threshold: float
    unit: str
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """Passed where no check failed."""

    passed: bool
    checks: list[Check]


def judge(summary: Summary, thresholds: Thresholds) -> Verdict:
    """Return the verdict: what always must hold, and each threshold."""
    always = [_anything(summary), _finite(summary), _commands(summary)]
    return combine_checks([*always, *(_check(each, summary, thresholds) for each in fields(Thresholds))])


def combine_checks(checks: Sequence[Check]) -> Verdict:
    """Return the verdict of these checks."""
    return Verdict(all(check.passed is not False for check in checks), list(checks))


def _anything(summary: Summary) -> Check:
    sentence = (
        f"{summary.predictions:,} observations were inferred from, {summary.compared_predictions:,} of them could be "
        f"compared with the recording."
    )
    return Check(
        "compared_predictions", summary.compared_predictions > 0, summary.compared_predictions, 1, "", sentence
    )


def _finite(summary: Summary) -> Check:
    count = summary.violations[NOT_FINITE].count
    undefined = summary.reference.undefined if summary.reference else 0
    sentence = "Every action is finite." if not count else f"{count:,} chunks have values that are not finite."
    if undefined:
        sentence += f" {undefined} chunks have no correlation with the reference backend's: not finite, or constant."
    return Check("finite", count + undefined == 0, count + undefined, 0, "", sentence)


def _commands(summary: Summary) -> Check:
    if summary.commands is None:
        return Check("commands", None, None, 0, "", "What a running node commanded: skipped, none was recorded.")
    broken = summary.commands.violations
    sentence = f"{summary.commands.count:,} trajectories of a running node were recorded, "
    sentence += "; ".join(f"{count} break {label}" for label, count in broken.items()) or "none breaks a limit"
    return Check("commands", not broken, sum(broken.values()), 0, "", sentence + ".")


def _check(threshold: Field, summary: Summary, thresholds: Thresholds) -> Check:
    name, about = threshold.name, threshold.metadata
    value, limit, unit = _value(summary, about["value"]), getattr(thresholds, name), about["unit"]
    label = about["label"][0].upper() + about["label"][1:]
    if value is None:
        return Check(name, None, None, limit, unit, f"{label}: skipped, {about['absent']}.")
    least = name.startswith("min_")
    passed = value >= limit if least else value <= limit
    asked = f"at {'least' if least else 'most'} {in_words(limit, unit)} is {'asked for' if least else 'allowed'}"
    return Check(name, passed, value, limit, unit, f"{label}: {in_words(value, unit)}, {asked}.")


def in_words(value: float, unit: str) -> str:
    """Return a value with its unit, of the digits that count; parts as percentages."""
    if unit == FRACTION:
        return f"{100 * value:.3g} %"
    if abs(value) >= 1000:
        return f"{value:,.0f} {unit}".strip()
    return f"{value:.3g} {unit}" if unit else f"{value:.4g}"


def _value(summary: Summary, path: str) -> float | None:
    """Return what the dotted path leads to; None where something on it is None."""
    found: Any = summary
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else getattr(found, name)
        if found is None:
            return None
    return float(found)
