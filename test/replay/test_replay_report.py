"""The report: complete as JSON, one page that needs nothing from elsewhere, and true to what was measured."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import asdict, fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jinja2", reason="the extra 'replay' is not installed")

from pi0_ttnn_ros.replay import episode as replay_episode
from pi0_ttnn_ros.replay.episode import Episode, Frames, Scene
from pi0_ttnn_ros.replay.report import schema, summary, sums, thresholds, verdict
from pi0_ttnn_ros.replay.report.metrics import episode_metrics
from pi0_ttnn_ros.replay.report.page import duration, gauge, number, page, percent
from pi0_ttnn_ros.replay.report.plots import axis, bars, line
from pi0_ttnn_ros.replay.report.report import bag_report, reproduction, write_report
from pi0_ttnn_ros.replay.report.schema import BagReport
from pi0_ttnn_ros.replay.report.summary import summarize
from pi0_ttnn_ros.replay.report.thresholds import Thresholds
from pi0_ttnn_ros.replay.report.verdict import judge
from support.replay_cases import GRIPPERS, LIMITS, PARAMETERS, START, STEP, episode, normalize, recording, wave
from support.replay_cases import wave_episode as perfect

UNKNOWN = "\N{EN DASH}"
ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"top": (200, 40, 40), "wrist": (30, 60, 200)}
REPRODUCTION = reproduction(PARAMETERS, "pi0-ttnn replay bags/towel --out report", "ab" * 32, "ttnn")


def seen(instruction: str = "fold the towel"):
    images = {camera: np.full((480, 640, 3), colour, np.uint8) for camera, colour in COLOURS.items()}
    return lambda stamps: dict.fromkeys(stamps, Scene(images, instruction))


def report_on(case: Episode, scenes=None) -> BagReport:
    metrics = episode_metrics(case, PARAMETERS, LIMITS, GRIPPERS, normalize)
    return bag_report(case, metrics, PARAMETERS, LIMITS, normalize, Thresholds(), scenes or seen())


def write(reports, folder: Path) -> tuple[bool, dict, str]:
    passed = write_report(reports, Thresholds(), REPRODUCTION, folder)
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "report.json"]
    return passed, json.loads((folder / "report.json").read_text()), (folder / "report.html").read_text()


class Page(HTMLParser):
    """What a page consists of: text, identifiers, and all that it leads to or loads."""

    VOID = ("meta", "br", "img", "path")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.ids, self.links, self.tags, self.open = "", [], [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "src", "srcset", "data", "action", "poster"):
                self.links.append(value)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def off(times: np.ndarray) -> np.ndarray:
    """The wave, with an error that is largest at 2 s."""
    return wave(times) + 0.05 * np.exp(-8 * (times - 2.0) ** 2)[:, None]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    case = perfect(off)
    case = replace(case, predictions=[replace(each, reference=each.actions + 0.001) for each in case.predictions])
    return case, *write([report_on(case)], tmp_path_factory.mktemp("report"))


def test_page_is_self_contained(one):
    """The page loads nothing from elsewhere."""
    html = one[3]
    found = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    for link in found.links:
        assert link.startswith("data:image/jpeg;base64,") or link.removeprefix("#") in found.ids
    assert len(found.ids) == len(set(found.ids))
    assert not re.search(r"https?://|@import|url\(", html)
    assert "prefers-color-scheme: dark" in html and 'name="viewport"' in html


def test_page_from_json(one):
    """The page can be made from the JSON alone."""
    _, _, content, html = one
    assert page(content) == html


def test_page_verdict(one, tmp_path):
    """The verdict is at the top, with a sentence for each threshold."""
    _, passed, content, html = one
    text = Page(html).text
    assert passed and content["passed"] and "PASS" in text and "FAIL" not in text
    assert text.index("PASS") < min(text.index(check["sentence"]) for check in content["verdict"]["checks"])
    failing, content, html = write([report_on(perfect(lambda times: wave(times) + 0.3))], tmp_path)
    text = Page(html).text
    assert not failing and not content["passed"] and "FAIL" in text
    sentences = {check["passed"]: check["sentence"] for check in content["verdict"]["checks"]}
    assert text.index(sentences[False]) < text.index(sentences[True]) < text.index(sentences[None])


def test_json_has_measurements_and_reproduction(one):
    """The JSON has what was measured and how to measure it again."""
    case, _, content, _ = one
    metrics = episode_metrics(case, PARAMETERS, LIMITS, GRIPPERS, normalize)
    summary = summarize(metrics)
    assert content["format"] == 2
    assert content["summary"] == content["bags"][0]["summary"] == json.loads(json.dumps(asdict(summary)))
    assert content["bags"][0]["sums"] == json.loads(json.dumps(asdict(metrics)))
    assert content["thresholds"] == asdict(Thresholds())
    run = content["reproduction"]
    assert run["checkpoint_digest"] == "ab" * 32 and run["reference"] == "ttnn" and run["parameters"]["seed"] == 0
    assert run["versions"]["numpy"] == np.__version__ and run["versions"]["pi0_ttnn_ros"] == "0.1.0"
    assert run["command"] in Page(one[3]).text


def test_every_name_in_the_json_is_documented():
    documentation = (ROOT / "docs/reference/replay_report.md").read_text()
    known = {}
    for module in (replay_episode, sums, summary, thresholds, verdict, schema):
        known |= {name: value for name, value in vars(module).items() if is_dataclass(value)}
    waiting, done = [schema.Report], set()
    while waiting:
        kind = waiting.pop()
        done.add(kind)
        for each in fields(kind):
            assert f"`{each.name}`" in documentation, (kind.__name__, each.name)
            waiting += [known[name] for name in re.findall(r"\w+", each.type) if name in known]
        waiting = [kind for kind in waiting if kind not in done]
    assert {summary.Summary, schema.WorstPrediction, verdict.Check, Frames} <= done


def test_worst_chunks_have_images(one):
    """The worst chunks are shown with the cameras' images."""
    case, _, content, html = one
    bag = content["bags"][0]
    errors = {
        each.stamp_ns: error for each, error in zip(case.predictions, bag["sums"]["prediction_error"], strict=True)
    }
    stamps = [worst["stamp_ns"] for worst in bag["worst"]]
    assert errors[stamps[0]] == max(errors.values()) == pytest.approx(bag["worst"][0]["error"])
    assert min(abs(first - second) for first in stamps for second in stamps if first != second) >= 10**9
    assert bag["worst"][0]["time"] == pytest.approx((stamps[0] - START) * 1e-9)
    assert bag["worst"][0]["joints"][0]["name"] == "gripper"  # its scale is the largest, its error the same
    for camera, colour in COLOURS.items():
        data = base64.b64decode(bag["worst"][0]["images"][camera].partition("base64,")[2])
        picture = Image.open(io.BytesIO(data))
        assert picture.size == (256, 192)
        np.testing.assert_allclose(picture.getpixel((128, 96)), colour, atol=6)
    assert "fold the towel" in Page(html).text


def test_images_are_asked_for_once_and_may_be_missing():
    calls = []

    def scenes(stamps):
        calls.append(list(stamps))
        return {}

    report = report_on(perfect(off), scenes)
    assert len(calls) == 1 and calls[0] == [worst.stamp_ns for worst in report.worst]
    assert all(not worst.images for worst in report.worst)


def test_text_from_bags_is_escaped(tmp_path):
    """Text from a bag is escaped."""
    evil = "<script>alert('&')</script>"
    case = replace(
        perfect(), bag=Path("bags") / evil.replace("/", "_"), unusable={evil: 1}, frames={evil: Frames(1, 0, 0.0)}
    )
    case = replace(case, problems=[evil])
    _, _, html = write([report_on(case, seen(evil))], tmp_path)
    assert "<script" not in html
    assert Page(html).text.count(evil) >= 4


def test_several_bags_are_one_report(tmp_path):
    cases = [
        replace(perfect(predict), bag=Path(f"bags/take_{number}"))
        for number, predict in enumerate([wave, off, lambda times: wave(times) + 0.3])
    ]
    reports = [report_on(case) for case in cases]
    _, content, html = write(reports, tmp_path)
    joined = replace(cases[0], predictions=[each for case in cases for each in case.predictions])
    expected = summarize(episode_metrics(joined, PARAMETERS, LIMITS, GRIPPERS, normalize))
    assert content["summary"]["mae"] == pytest.approx(expected.mae)
    assert content["summary"]["joint_states"] == sum(case.joint_states for case in cases)
    assert [bag["verdict"]["passed"] for bag in content["bags"]] == [True, True, False]
    found = Page(html)
    for index in range(3):
        assert f"take_{index}" in found.text and f"#bag-{index + 1}" in found.links


def test_bag_without_comparisons_is_shown(tmp_path):
    """A bag of which nothing was compared is not hidden by the others."""
    good, silent = perfect(), replace(episode([], recording(wave, 1.0)), bag=Path("bags/dark"))
    assert write([report_on(good)], tmp_path)[0]
    passed, content, html = write([report_on(good), report_on(silent)], tmp_path)
    assert not passed
    assert "Nothing of bags/dark could be compared." in Page(html).text
    assert "Error over time" in html and content["bags"][1]["worst"] == []


@pytest.mark.parametrize("kind", ["no prediction", "no recording", "not finite", "one prediction"])
def test_page_of_poor_episodes(kind, tmp_path):
    """An episode with little or nothing in it has a page."""
    case = perfect()
    spoiled = {
        "no prediction": replace(case, predictions=[], frames={}, joint_states=0, unusable={}),
        "no recording": replace(
            case, recording=replay_episode.Recording(np.empty(0, np.int64), np.empty((0, 3))), frames={}
        ),
        "not finite": replace(
            case, predictions=[replace(each, actions=each.actions * np.nan) for each in case.predictions]
        ),
        "one prediction": replace(case, predictions=case.predictions[-1:]),
    }[kind]
    passed, _, html = write([report_on(spoiled)], tmp_path)
    assert not passed or kind == "one prediction"
    text = Page(html).text
    assert ("an action is not finite" in text) == (kind == "not finite")
    assert not re.search(r"\b(NaN|None|inf)\b", text)


def test_page_size(tmp_path):
    """As large as of four minutes; and of forty bags each has its part, less of it than of four."""
    long = report_on(perfect(off, seconds=1200.0, every=50))
    short = report_on(perfect(off, seconds=240.0, every=50))
    sizes = [len(write([each], tmp_path)[2]) for each in (short, long)]
    assert sizes[1] < 1.1 * sizes[0]
    assert long.trajectories.end - long.trajectories.start == pytest.approx(60.0)
    assert long.trajectories.start <= long.worst[0].time <= long.trajectories.end
    four, forty = (len(write([short] * count, tmp_path)[2]) for count in (4, 40))
    assert forty / 40 < 0.5 * four / 4 and forty < 4_000_000


def test_trajectories_of_recording_and_chunks():
    """The drawn trajectories are the recording and the chunks."""
    case = perfect(off)
    drawn = report_on(case).trajectories
    np.testing.assert_allclose(np.array(drawn.recorded)[:, :2], wave(np.array(drawn.times))[:, :2], atol=2e-3)
    for each in drawn.chunks:
        np.testing.assert_allclose(each.positions, off(np.array(each.times)), atol=2e-4)
    holey = replay_episode.Recording(
        np.delete(case.recording.times_ns, slice(50, 100)), np.delete(case.recording.positions, slice(50, 100), 0)
    )
    drawn = report_on(replace(case, recording=holey)).trajectories
    missing = [time for time, position in zip(drawn.times, drawn.recorded, strict=True) if position[0] is None]
    assert min(missing) == pytest.approx(49 * STEP * 1e-9, abs=0.01) and max(missing) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.0, 1.0, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (-0.6, 0.6, ["-0.50", "-0.25", "0.00", "0.25", "0.50"]),
        (0.0, 3600.0, ["0", "1000", "2000", "3000"]),
        (0.0, 0.0031, ["0.000", "0.001", "0.002", "0.003"]),
        (2.0, 2.0, ["2.00", "2.25", "2.50", "2.75", "3.00"]),
    ],
)
def test_axes_have_round_numbers_in_their_place(low, high, texts):
    made = axis("s", low, high)
    assert [text for _, text in made.ticks] == texts
    for place, text in made.ticks:
        assert low + place / 100 * (made.high - low) == pytest.approx(float(text), abs=1e-9)


@pytest.mark.parametrize(
    ("high", "texts"), [(1.1, ["0", "1"]), (9.0, ["0", "2", "4", "6", "8"]), (70, ["0", "20", "40", "60"])]
)
def test_counts_have_whole_numbers(high, texts):
    assert [text for _, text in axis("chunks", 0.0, high, whole=True).ticks] == texts


def test_lines_and_bars_are_drawn_to_scale():
    x, y = axis("s", 0.0, 10.0), axis("rad", -1.0, 1.0)
    assert line(x, y, [0, 5, 6, 10], [-1, 0, None, 1]) == "M0 1000L500 500M1000 0"
    assert bars(x, axis("chunks", 0.0, 4.0), [0, 5, 10], [2, 0]) == "M1 1000V500H499V1000Z"


def test_gauges_compare_a_value_with_its_threshold():
    checks = {check.name: asdict(check) for check in judge(report_on(perfect(off)).summary, Thresholds()).checks}
    assert gauge(checks["finite"]) is None and gauge(checks["min_pcc"]) is None
    for name in ("max_mae", "min_gripper_agreement"):
        ratio = checks[name]["value"] / checks[name]["threshold"]
        made = gauge(checks[name])
        assert made["bar"] / made["mark"] == pytest.approx(ratio) and 0 <= made["bar"] <= 100 >= made["mark"]
    assert gauge(checks["max_jump_violations"]) == {"bar": 0.0, "mark": 0.0}


def test_number_format():
    """Numbers are short, and zero differs from a small number."""
    assert [number(value) for value in (None, 0.0, 0.0244, 1.0, 123.4, 35996, 1e-5, 2.5e6)] == [
        UNKNOWN,
        "0.00",
        "0.0244",
        "1.00",
        "123",
        "35,996",
        "1.0e-05",
        "2.5e+06",
    ]
    assert [percent(part) for part in (None, 0.0, 0.004, 0.5, 0.996, 1.0)] == [
        UNKNOWN,
        "0 %",
        "0.4 %",
        "50 %",
        "99.6 %",
        "100 %",
    ]
    assert [duration(seconds) for seconds in (12.34, 90, 3720)] == ["12.3 s", "1 min 30 s", "1 h 02 min"]


def test_report_without_bags(tmp_path):
    """A report on no bag is refused."""
    with pytest.raises(ValueError, match="no bag"):
        write_report([], Thresholds(), REPRODUCTION, tmp_path)
    assert not list(tmp_path.iterdir())
