"""Verdicts: each threshold decides, nothing passes only because nothing was measured, wrong sections are refused."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from pi0_ttnn_ros.replay.episode import CommandStream, Frames
from pi0_ttnn_ros.replay.report.metrics import episode_metrics
from pi0_ttnn_ros.replay.report.summary import summarize
from pi0_ttnn_ros.replay.report.thresholds import Thresholds, replay_settings
from pi0_ttnn_ros.replay.report.verdict import judge
from support.replay_cases import (
    GRIPPERS,
    LIMITS,
    PARAMETERS,
    episode,
    normalize,
    prediction,
    recording,
    wave,
    wave_episode,
)

ROOT = Path(__file__).resolve().parents[2]
YAML = (ROOT / "config/aloha.yaml").read_text()
JOINT_NAMES = parameters_from_yaml(ROOT / "config/aloha.yaml", {"checkpoint": "anywhere"}).joint_names


def summary_of(case, grippers=GRIPPERS):
    return summarize(episode_metrics(case, PARAMETERS, LIMITS, grippers, normalize))


def with_reference(case, difference=0.0):
    return replace(case, predictions=[replace(each, reference=each.actions + difference) for each in case.predictions])


def failed(verdict):
    assert verdict.passed == all(check.passed is not False for check in verdict.checks)
    return {check.name for check in verdict.checks if check.passed is False}


def off_by(*offset):
    return lambda times: wave(times) + np.array(offset)


GOOD = with_reference(wave_episode())
STEEP = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0])[:, None]  # the last of ten actions jumps


@pytest.mark.parametrize(
    ("spoiled", "names"),
    [
        (GOOD, set()),
        (wave_episode(off_by(0.11, 0.11, 0.0)), {"max_mae"}),
        (wave_episode(off_by(0.0, 0.0, 0.16)), {"max_normalized_mae"}),
        (wave_episode(off_by(2.5, 0.0, 0.0)), {"max_jump_violations", "max_position_violations"}),
        (wave_episode(lambda times: wave(times) + STEEP[: len(times)] / 20), {"max_velocity_violations"}),
        (wave_episode(lambda times: wave(times) + 0.04 * np.cos(times * 50 * np.pi)[:, None]), {"max_jerk_ratio"}),
        (wave_episode(lambda times: wave(times) * [1, 1, 0]), {"min_gripper_change_agreement"}),
        (with_reference(wave_episode(), 0.06), {"max_reference_difference"}),
        (replace(GOOD, frames={"top": Frames(100, 0, 0.1), "wrist": Frames(90, 10, 0.1)}), {"max_dropped_frames"}),
        (replace(GOOD, unusable={"no image yet": 20}), {"max_unusable"}),
        (replace(GOOD, commands=CommandStream(10, 0.1, {"max_velocity of elbow": 2})), {"commands"}),
        (replace(GOOD, commands=CommandStream(10, 0.1, {})), set()),
        (replace(GOOD, predictions=[replace(each, latency=0.6) for each in GOOD.predictions]), {"max_latency_p95"}),
        (
            replace(
                GOOD, predictions=[replace(GOOD.predictions[0], actions=np.full((10, 3), np.nan)), *GOOD.predictions]
            ),
            {"finite"},
        ),
    ],
)
def test_verdict_names_failures(spoiled, names):
    """What is wrong fails by its name."""
    verdict = judge(summary_of(spoiled), Thresholds())
    assert names <= failed(verdict) and verdict.passed == (not names)


def test_every_threshold_decides():
    """A hair on the wrong side of what was measured fails, on the right side it passes."""
    noise = np.random.default_rng(0)
    shaken = wave_episode(lambda times: wave(times) + noise.normal(0, 0.3, (len(times), 3)))
    case = replace(
        with_reference(shaken),
        predictions=[
            replace(each, reference=each.actions + noise.normal(0, 0.1, (10, 3))) for each in shaken.predictions
        ],
    )
    case.predictions[3].state[0] = 3.0
    summary = summary_of(case)
    values = {check.name: check.value for check in judge(summary, Thresholds()).checks}
    for each in fields(Thresholds):
        value, towards_failure = values[each.name], 1e-6 if each.name.startswith("min_") else -1e-6
        assert value is not None and value != 0
        for sign, passes in ((1, False), (-1, True)):
            verdict = judge(summary, Thresholds(**{each.name: value + sign * towards_failure}))
            assert (each.name not in failed(verdict)) == passes, each.name


def test_verdict_sentences():
    """The sentences have the measured value and the threshold."""
    verdict = judge(summary_of(wave_episode(off_by(0.3, 0.1, 0.0))), Thresholds(max_mae=0.15))
    sentences = {check.name: check.sentence for check in verdict.checks}
    assert re.search(
        r"error of the arm's joints: 0\.2 rad \(m\), at most 0\.15 rad \(m\) is allowed", sentences["max_mae"]
    )
    assert "41 predictions were made, 41 of them could be compared" in sentences["compared_predictions"]


def test_unmeasurable_is_skipped():
    """What cannot be measured is skipped, with the reason."""
    verdict = judge(summary_of(wave_episode(), grippers=()), Thresholds())
    skipped = {check.name: check.sentence for check in verdict.checks if check.passed is None}
    assert skipped.keys() == {
        "commands",
        "min_gripper_agreement",
        "min_gripper_change_agreement",
        "min_pcc",
        "max_reference_difference",
    }
    assert verdict.passed
    assert skipped["min_pcc"].endswith("skipped, there is no reference.")


def test_nothing_usable_fails():
    """A bag without a usable prediction does not pass."""
    recorded = recording(wave, 1.0)
    assert failed(judge(summary_of(episode([], recorded)), Thresholds())) == {"compared_predictions", "max_unusable"}
    elsewhere = episode([prediction(1000, wave, np.zeros(3))], recorded)
    assert "compared_predictions" in failed(judge(summary_of(elsewhere), Thresholds()))


def settings_from(tmp_path, section: str):
    file = tmp_path / "robot.yaml"
    file.write_text(YAML + section)
    return replay_settings(file, JOINT_NAMES)


def test_yaml_section(tmp_path):
    """The thresholds of a YAML's `replay` section."""
    settings = settings_from(tmp_path, "    replay:\n      max_mae: 0.02\n      min_pcc: 1\n")
    assert settings.thresholds == replace(Thresholds(), max_mae=0.02, min_pcc=1.0)
    assert settings.grippers == ("left_gripper", "right_gripper")
    assert settings_from(tmp_path, "").thresholds == Thresholds()
    named = settings_from(tmp_path, "    replay:\n      gripper_joints: [right_elbow, left_waist]\n")
    assert named.grippers == ("left_waist", "right_elbow")
    assert settings_from(tmp_path, "    replay:\n      gripper_joints: []\n").grippers == ()


@pytest.mark.parametrize(
    ("section", "culprit"),
    [
        ("    replay:\n      max_mea: 0.1\n", "replay.max_mea is unknown: choose from ['max_mae'"),
        ("    replay:\n      max_mae: small\n", "replay.max_mae is 'small', but must be a number"),
        ("    replay:\n      max_mae: true\n", "replay.max_mae is True, but must be a number"),
        ("    replay:\n      max_mae: .nan\n", "replay.max_mae is nan, but must be a number"),
        ("    replay:\n      max_mae: [0.1]\n", "replay.max_mae is [0.1], but must be a number"),
        (
            "    replay:\n      gripper_joints: left_gripper\n",
            "replay.gripper_joints is 'left_gripper', but must be a",
        ),
        ("    replay:\n      gripper_joints: [hand]\n", "replay.gripper_joints names ['hand'], which are not in joint"),
        ("    replay: 0.1\n", "replay is 0.1, but must be a section"),
    ],
)
def test_invalid_yaml_section(tmp_path, section, culprit):
    """An invalid `replay` section is refused by name."""
    with pytest.raises(ParameterError, match=re.escape(culprit)):
        settings_from(tmp_path, section)


def test_node_ignores_replay_section(ros, tmp_path):
    """The node does not declare it: rclpy must take the file all the same, and the other parameters from it."""
    rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from pi0_ttnn_ros.rclpy_utils.parameters import NodeParameters

    file = tmp_path / "robot.yaml"
    file.write_text(
        YAML + "    checkpoint: anywhere\n    replay:\n      max_mae: 0.02\n      gripper_joints: [left_gripper]\n"
    )
    node = rclpy.create_node("pi0_policy", cli_args=["--ros-args", "--params-file", str(file)])
    try:
        assert NodeParameters(node).read().joint_names == JOINT_NAMES
        assert not node.has_parameter("replay.max_mae")
    finally:
        node.destroy_node()
