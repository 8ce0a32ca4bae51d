"""`pi0-ttnn replay`: one command, one report, and an exit status that a CI can go by."""

from __future__ import annotations

import json
from html import unescape

import pytest

from pi0_ttnn_ros.cli.main import main
from support.bags import LENIENT, PARAMETERS, messages, write_bag


@pytest.fixture(scope="module")
def lenient(tmp_path_factory):
    file = tmp_path_factory.mktemp("robot") / "lenient.yaml"
    file.write_text(PARAMETERS + LENIENT)
    return file


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    for name, seconds in (("one", 1.0), ("other", 0.6)):
        write_bag(folder / name, messages(seconds))
    return folder


@pytest.fixture
def replay(tiny_checkpoint, lenient, tmp_path):
    """Run the command; return its exit status and the report, None where there is none."""

    def run(*arguments, robot=lenient):
        words = [*arguments, "--robot", robot, "--checkpoint", tiny_checkpoint, "--out", tmp_path / "out"]
        status = main(["replay", *map(str, words)])
        file = tmp_path / "out/report.json"
        return status, json.loads(file.read_text()) if file.exists() else None

    return run


def test_verdict_by_yaml_thresholds(replay, bags, tmp_path):
    """A replay passes or fails by the thresholds of the YAML."""
    status, report = replay(bags / "one")
    assert (status, report["passed"]) == (0, True)
    assert report["bags"][0]["summary"]["predictions"] == 5
    strict = tmp_path / "strict.yaml"
    strict.write_text(PARAMETERS)
    status, report = replay(bags / "one", robot=strict)
    assert (status, report["passed"]) == (1, False)
    assert "data:image/jpeg" in (tmp_path / "out/report.html").read_text()


def test_jobs_give_the_same_report(replay, bags, tmp_path):
    """A folder of bags gives the same report in one process and in several."""
    status, one = replay(bags)
    assert status == 0 and one["summary"]["predictions"] == 5 + 3
    stored = list((tmp_path / "out").glob("*/predictions.bin"))
    assert len(stored) == 2
    for file in stored:
        file.unlink()
    status, several = replay(bags, "--jobs", 2)
    assert status == 0
    for name in ("mae", "normalized_mae", "joints", "horizon", "violations"):
        assert several["summary"][name] == one["summary"][name], name


def test_unusable_bag_fails(replay, bags, tmp_path, capsys):
    """A bag that cannot be used fails the replay."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "broken_0.mcap").write_bytes(b"no bag")
    status, report = replay(bags / "one", broken)
    assert (status, report["passed"]) == (1, False)
    assert len(report["left_out"]) == 1 and str(broken) in report["left_out"][0]
    assert report["left_out"][0] in unescape((tmp_path / "out/report.html").read_text())
    assert report["left_out"][0] in capsys.readouterr().err


def test_reference_backend_agrees(replay, bags):
    """A reference backend that computes the same agrees exactly."""
    status, report = replay(bags / "one", "--reference", "torch")
    assert status == 0
    assert report["summary"]["reference"]["pcc_lowest"] == pytest.approx(1.0)
    assert report["summary"]["reference"]["difference"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (("nowhere",), "nowhere does not exist"),
        (("BAG", "--robot", "toaster"), "toaster"),
        (("BAG", "--checkpoint", "nowhere"), "nowhere is not a directory"),
        (("BAG", "OTHER", "--jobs", "2", "--checkpoint", "nowhere"), "nowhere is not a directory"),
        (("BAG", "--reference", "recorded"), "has no chunks"),
        (("BAG", "--jobs", "2", "--backend", "ttnn"), "a card serves one process at a time"),
        (("BAG", "BAG/../one"), "several bags are called"),
    ],
)
def test_usage_errors(arguments, culprit, bags, tiny_checkpoint, lenient, tmp_path, capsys):
    """An error of the user is one line and exit status 2."""
    words = [word.replace("BAG", str(bags / "one")).replace("OTHER", str(bags / "other")) for word in arguments]
    defaults = ["--robot", str(lenient), "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path / "out")]
    assert main(["replay", *defaults, *words]) == 2
    said = capsys.readouterr().err.strip()
    assert culprit in said and "\n" not in said
