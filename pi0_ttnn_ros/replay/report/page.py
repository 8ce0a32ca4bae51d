"""report.html: the contents of report.json on one page that loads nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pi0_ttnn_ros.replay.report.plots import Axis, Mark, Plot, area, axis, bars, level, line

TEMPLATE = "page.html.jinja"
UNIT = "rad (m)"
# With more bags than this, less is drawn of each, so that the page stays small.
DRAWN_BAGS = 4
BINS = 30
TIMELINE_POINTS = 400
SMALLEST_SPAN = 0.02  # rad or m: the noise of a joint that stands still is not magnified
MILLISECONDS = 1e3


def page(report: dict[str, Any]) -> str:
    """Return the page for the contents of report.json."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"number": number, "percent": percent, "duration": duration, "gauge": gauge}
    share = min(1.0, DRAWN_BAGS / len(report["bags"]))
    sums = [bag["sums"] for bag in report["bags"]]
    return environment.get_template(TEMPLATE).render(
        report=report,
        checks=_sort_checks(report["verdict"]),
        plots=result_plots(report["summary"], sums, report["thresholds"]),
        bags=[_draw_bag(bag, index, report["thresholds"], share) for index, bag in enumerate(report["bags"], 1)],
        seconds=sum(bag["duration"] for bag in report["bags"]),
        unit=UNIT,
    )


def number(value: float | None) -> str:
    """Return a value with three digits, or a count in full; a dash if it is unknown."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int) or 100 <= abs(value) < 1e5:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if value == 0 or 1e-3 <= abs(value) < 100 else f"{value:.1e}"


def percent(fraction: float | None) -> str:
    """Return a percentage, with a decimal near 0 and 100, to tell little from nothing and nearly all from all."""
    if fraction is None:
        return "\N{EN DASH}"
    return f"{100 * fraction:.1f} %" if 0 < fraction < 0.1 or 0.9 < fraction < 1 else f"{100 * fraction:.0f} %"


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def gauge(check: dict[str, Any]) -> dict[str, float] | None:
    """Return the length of the bar of a check and the place of its threshold, in percent; None without a bar."""
    value, threshold = check["value"], check["threshold"]
    least = check["name"].startswith("min_")
    if value is None or value < 0 or not (least or check["name"].startswith("max_")):
        return None
    whole = max(1.0, value, threshold) if least else 1.25 * max(value, threshold) or 1.0
    return {"bar": 100 * value / whole, "mark": 100 * threshold / whole}


def result_plots(summary: dict[str, Any], sums: Sequence[dict[str, Any]], thresholds: dict[str, Any]) -> list[Plot]:
    """Return the plots that summarise one bag or several."""
    plots = []
    steps = [step for step in summary["horizon"] if step["count"]]
    if len(steps) > 1:
        plots += [_normalized_horizon(steps), _arm_horizon(steps, thresholds)]
    latencies = [MILLISECONDS * seconds for each in sums for seconds in each["latency"]]
    if latencies:
        plots.append(_latencies(latencies, MILLISECONDS * thresholds["max_latency_p95"]))
    differences = [value for each in sums if each["agreement"] for value in each["agreement"]["difference"]]
    if differences:
        plots.append(_differences(differences, thresholds["max_reference_difference"]))
    return plots


def trajectory_plots(bag: dict[str, Any], share: float) -> list[Plot]:
    """Return a plot of each joint, recorded and predicted."""
    drawn = bag["trajectories"]
    if drawn["end"] <= drawn["start"]:
        return []
    x = axis("time, s", drawn["start"], drawn["end"])
    points = slice(None, None, round(1 / share))
    return [_trajectory(drawn, bag["summary"]["joints"][joint], joint, x, points) for joint in _joints(bag)]


def timeline(bag: dict[str, Any], worst: int) -> Plot | None:
    """Return the error over the time of one bag, with its worst predictions; None if nothing was compared."""
    known = [
        (time, error)
        for time, error in zip(bag["prediction_times"], bag["sums"]["prediction_error"], strict=True)
        if error is not None
    ]
    if not known:
        return None
    groups = np.array_split(np.array(known), min(len(known), TIMELINE_POINTS))
    times = [float(group[0, 0]) for group in groups]
    lowest, mean, highest = ([float(of(group[:, 1])) for group in groups] for of in (np.min, np.mean, np.max))
    x = axis("time, s", 0.0, max(bag["trajectories"]["end"], times[-1], 0.1), 6)
    y = axis("normalised error", 0.0, 1.1 * max(*highest, 1e-3))
    paths = [("range", area(x, y, times, lowest, highest)), ("predicted", line(x, y, times, mean))]
    note = "mean absolute error of each chunk in the checkpoint's space"
    if len(known) > len(groups):
        note += f"; mean, lowest and highest of {len(groups[0])} chunks each"
    marks = [
        Mark(100 * x.place(prediction["time"]), 100 * y.place(prediction["error"] or 0.0), str(rank))
        for rank, prediction in enumerate(bag["worst"][:worst], 1)
    ]
    return Plot("Error over time", x, y, paths, note, marks=marks)


def _draw_bag(bag: dict[str, Any], index: int, thresholds: dict[str, Any], share: float) -> dict[str, Any]:
    worst = max(1, round(share * len(bag["worst"]))) if bag["worst"] else 0
    return {
        "id": f"bag-{index}",
        "name": Path(bag["bag"]).name,
        "report": bag,
        "checks": _sort_checks(bag["verdict"]),
        "timeline": timeline(bag, worst),
        "trajectories": trajectory_plots(bag, share),
        "plots": result_plots(bag["summary"], [bag["sums"]], thresholds),
        "worst": [(prediction, _worst_plot(prediction)) for prediction in bag["worst"][:worst]],
    }


def _sort_checks(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(verdict["checks"], key=lambda check: (False, True, None).index(check["passed"]))


def _joints(bag: dict[str, Any]) -> range:
    return range(len(bag["summary"]["joints"]))


def _trajectory(drawn: dict[str, Any], joint: dict[str, Any], index: int, x: Axis, points: slice) -> Plot:
    chunks = drawn["chunks"][points]
    recorded = [position[index] for position in drawn["recorded"]]
    values = [value for value in recorded if value is not None]
    values += [position[index] for chunk in chunks for position in chunk["positions"] if position[index] is not None]
    lower, upper = drawn["position_min"][index], drawn["position_max"][index]
    room = 0.25 * (upper - lower)
    y = _span(UNIT, [value for value in values if lower - room <= value <= upper + room] or [lower, upper])
    paths = [("limit", level(y, limit)) for limit in (lower, upper) if y.low < limit < y.high]
    predicted = "".join(
        line(x, y, chunk["times"], [position[index] for position in chunk["positions"]]) for chunk in chunks
    )
    paths += [("chunks", predicted), ("recorded", line(x, y, drawn["times"][points], recorded[points]))]
    return Plot(joint["name"], x, y, paths, f"off by {number(joint['mae'])} {UNIT}")


def _span(label: str, values: Sequence[float]) -> Axis:
    middle, half = (max(values) + min(values)) / 2, max(max(values) - min(values), SMALLEST_SPAN) * 0.55
    return axis(label, middle - half, middle + half, 2)


def _normalized_horizon(steps: Sequence[dict[str, Any]]) -> Plot:
    times = [step["time"] for step in steps]
    predicted = [step["normalized_mae"] for step in steps]
    held = [step["normalized_hold_mae"] for step in steps]
    x, y = axis("after the observation, s", 0.0, times[-1]), axis("normalised", 0.0, 1.1 * max(*predicted, *held, 1e-3))
    return Plot(
        "Error over the chunk",
        x,
        y,
        [("baseline", line(x, y, times, held)), ("predicted", line(x, y, times, predicted))],
        "mean absolute error of all joints in the checkpoint's space",
        [("predicted", "policy"), ("baseline", "standing still")],
    )


def _arm_horizon(steps: Sequence[dict[str, Any]], thresholds: dict[str, Any]) -> Plot:
    times, errors = [step["time"] for step in steps], [step["mae"] or 0.0 for step in steps]
    x, y = axis("after the observation, s", 0.0, times[-1]), axis(UNIT, 0.0, 1.1 * max(*errors, 1e-3))
    paths = [("predicted", line(x, y, times, errors))]
    legend = [("predicted", "policy")]
    if thresholds["max_mae"] < y.high:
        paths.insert(0, ("limit", level(y, thresholds["max_mae"])))
        legend.append(("limit", "max_mae (of the mean)"))
    return Plot("Error of the arm over the chunk", x, y, paths, "mean absolute error, without grippers", legend)


def _latencies(milliseconds: Sequence[float], threshold: float) -> Plot:
    p50, p95 = np.percentile(milliseconds, [50, 95])
    lines = [("p50", float(p50)), ("p95", float(p95)), ("max_latency_p95", threshold)]
    return _histogram("Latency", "from the observation to the chunk, ms", milliseconds, 3 * float(p95), lines)


def _differences(differences: Sequence[float], threshold: float) -> Plot:
    label = f"largest of a chunk, {UNIT}"
    lines = [("max_reference_difference", threshold)]
    return _histogram("Difference from the reference", label, differences, 3 * max(differences), lines)


def _histogram(title: str, label: str, values: Sequence[float], most: float, lines: list[tuple[str, float]]) -> Plot:
    """Return the histogram up to `most`, with named `lines`; larger values are in the last bar."""
    drawn = [(text, value) for text, value in lines if value <= most]
    high = 1.05 * max(min(max(values), most), *(value for _, value in drawn), 1e-6)
    counts, edges = np.histogram(np.minimum(values, high), BINS, (0.0, high))
    x, y = axis(label, 0.0, high), axis("chunks", 0.0, 1.1 * float(counts.max()), whole=True)
    beyond, unit = sum(value > high for value in values), label.rpartition(", ")[2]
    return Plot(
        title,
        x,
        y,
        [("bars", bars(x, y, edges.tolist(), counts.tolist()))],
        f"{len(values):,} chunks"
        + (f", {beyond} beyond the scale, up to {number(max(values))} {unit}" if beyond else ""),
        marks=[
            Mark(100 * x.place(value), 88.0 - 14.0 * row, text, vertical=True)
            for row, (text, value) in enumerate(drawn)
        ],
    )


def _worst_plot(prediction: dict[str, Any]) -> Plot | None:
    if len(prediction["times"]) < 2:
        return None
    x = axis("time, s", prediction["times"][0], prediction["times"][-1], 2)
    y = _span(UNIT, [*prediction["predicted"], *prediction["recorded"]])
    paths = [(kind, line(x, y, prediction["times"], prediction[kind])) for kind in ("recorded", "predicted")]
    return Plot(
        prediction["joints"][0]["name"], x, y, paths, legend=[("recorded", "recorded"), ("predicted", "predicted")]
    )
