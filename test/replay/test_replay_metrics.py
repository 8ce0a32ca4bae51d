"""The metrics of a replay against closed forms, and that episodes merge exactly."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ttnn_ros.replay.episode import CommandStream, Episode, Frames, Recording
from pi0_ttnn_ros.replay.report.comparison import recorded_at
from pi0_ttnn_ros.replay.report.metrics import episode_metrics
from pi0_ttnn_ros.replay.report.summary import Summary, summarize
from pi0_ttnn_ros.replay.report.sums import EpisodeMetrics, merge_metrics
from support.replay_cases import (
    GRIPPERS,
    JOINTS,
    LIMITS,
    PARAMETERS,
    SCALE,
    START,
    STEP,
    episode,
    normalize,
    prediction,
    recording,
    wave,
    wave_episode,
)


def metrics_of(case: Episode) -> EpisodeMetrics:
    return episode_metrics(case, PARAMETERS, LIMITS, GRIPPERS, normalize)


def summary_of(case: Episode) -> Summary:
    return summarize(metrics_of(case))


def test_a_perfect_prediction_has_no_error():
    summary = summary_of(wave_episode())
    assert summary.mae == pytest.approx(0, abs=1e-12) and summary.normalized_rmse == pytest.approx(0, abs=1e-12)
    assert summary.gripper_agreement == summary.gripper_change_agreement == 1.0
    assert summary.jerk_ratio == pytest.approx(1.0)
    assert summary.hold_ratio == pytest.approx(0, abs=1e-9)


def test_a_constant_offset_is_the_error_at_every_index_and_joint():
    offset = np.array([0.1, -0.02, 0.05])
    summary = summary_of(wave_episode(lambda times: wave(times) + offset))
    for joint, expected, scale in zip(summary.joints, np.abs(offset), SCALE, strict=True):
        assert joint.mae == pytest.approx(expected) and joint.rmse == pytest.approx(expected)
        assert joint.normalized_mae == pytest.approx(expected * scale) == pytest.approx(joint.normalized_rmse)
        assert joint.jump_mean == pytest.approx(expected, rel=1e-5) and joint.jump_max == pytest.approx(
            expected, rel=1e-5
        )
    # The arm without its gripper, and all joints on the checkpoint's scale.
    assert summary.mae == pytest.approx(0.06)
    assert summary.rmse == pytest.approx(np.sqrt((0.1**2 + 0.02**2) / 2))
    assert summary.normalized_mae == pytest.approx((0.2 + 0.1 + 0.5) / 3)
    for index, step in enumerate(summary.horizon):
        assert step.time == pytest.approx(index * 0.02)
        assert step.mae == pytest.approx(0.06) and step.normalized_mae == pytest.approx(0.8 / 3)


def test_error_over_horizon():
    """The policy stands still while the joint moves at 1 rad/s: 0.02 rad more with each step."""
    ramp = recording(lambda times: np.stack([times, 0 * times, 0 * times], axis=-1), 2.0)
    still = prediction(10, lambda times: np.tile(ramp.positions[10], (10, 1)), ramp.positions[10])
    summary = summary_of(episode([still], ramp))
    np.testing.assert_allclose([step.mae for step in summary.horizon], 0.02 * np.arange(10) / 2, atol=1e-6)
    assert summary.hold_ratio == pytest.approx(1.0)
    assert summary.joints[0].hold_mae == pytest.approx(0.02 * 4.5, rel=1e-6)


def test_steps_beyond_the_recording_are_not_compared():
    """50 recorded steps, predictions at 0 and at 45: of the second only the first six steps (45 to 50) are there."""
    recorded = recording(wave, 1.0)
    summary = summary_of(episode([prediction(step, wave, recorded.positions[0]) for step in (0, 45, 51)], recorded))
    assert [step.count for step in summary.horizon] == [2] * 6 + [1] * 4
    assert (summary.predictions, summary.compared_predictions, summary.compared_steps) == (3, 2, 16)


def test_steps_in_a_gap_of_the_recording_are_not_compared():
    """A joint state is missing for 0.3 s, longer than joint_state_timeout: its ends are known, the inside is not."""
    whole = recording(wave, 1.0)
    kept = np.r_[0:20, 34:51]
    holey = Recording(whole.times_ns[kept], whole.positions[kept])
    summary = summary_of(episode([prediction(step, wave, whole.positions[step]) for step in (15, 30)], holey))
    # From 15: steps 15 to 19 are known, the first five. From 30: 34 to 39, the last six.
    assert [step.count for step in summary.horizon] == [1, 1, 1, 1, 2, 1, 1, 1, 1, 1]
    assert summary.mae == pytest.approx(0, abs=1e-12)


def test_the_recording_is_interpolated_between_close_neighbours():
    recorded = Recording(np.array([0, 100, 1000]) * 10**6, np.array([[0.0], [1.0], [2.0]]))
    times = np.array([-1, 0, 25, 100, 500, 1000, 1001]) * 10**6
    expected = [np.nan, 0.0, 0.25, 1.0, np.nan, 2.0, np.nan]
    np.testing.assert_allclose(recorded_at(recorded, times, 0.2)[:, 0], expected)


def test_the_jerk_of_a_sine():
    """The third difference of A sin(w t) is A (2 sin(w h / 2) / h)^3 times a sine; its mean square over periods 1/2."""
    rate = 2 * np.pi / 0.2  # a period is ten steps

    def sine(amplitude):
        return lambda times: np.stack([amplitude * np.sin(rate * times), 0 * times, 0 * times], axis=-1)

    recorded = recording(sine(0.1), 2.0)
    # 13 steps have ten third differences: a period.
    summary = summary_of(episode([prediction(5, sine(0.3), recorded.positions[5], horizon=13)], recorded))
    expected = (2 * np.sin(rate * 0.01) / 0.02) ** 3 * np.sqrt(0.5)
    assert summary.joints[0].jerk_recorded == pytest.approx(0.1 * expected)
    assert summary.joints[0].jerk_predicted == pytest.approx(0.3 * expected)
    assert summary.jerk_ratio == pytest.approx(3.0)
    assert summary.joints[1].jerk_ratio is None  # neither moves


def still(times: np.ndarray) -> np.ndarray:
    return np.zeros((len(times), 3))


def at(*position: float):
    return lambda times: np.tile(position, (len(times), 1))


def with_steps(joint: int, values: list[float]):
    """A chunk that rests, except that one joint takes these values at its end."""

    def predict(times: np.ndarray) -> np.ndarray:
        actions = still(times)
        actions[len(times) - len(values) :, joint] = values
        return actions

    return predict


@pytest.mark.parametrize(
    ("predict", "kinds"),
    [
        (still, {}),
        # From 0 in steps of at most 0.08 rad (4 rad/s), whose changes are at most 0.016 rad (40 rad/s^2).
        (with_steps(1, [0.015, 0.03]), {}),
        (with_steps(1, [0.03]), {"acceleration": 1}),
        (with_steps(1, [0.1]), {"velocity": 1, "acceleration": 1}),
        (with_steps(1, [3.0]), {"position": 1, "velocity": 1, "acceleration": 1}),
        # A jump may be 0.5 s (max_jump_time) x 4 rad/s = 2 rad; it is measured to the limits, not beyond.
        (at(0.0, 1.9, 0.0), {}),
        (at(0.0, 1.9, 2.5), {"position": 2}),
        (with_steps(1, [np.nan]), {"not finite": 1}),
    ],
)
def test_violations_by_kind_and_joint(predict, kinds):
    """Violations of limits are counted by kind and joint."""
    recorded = recording(still, 1.0)
    quiet, loud = prediction(0, still, np.zeros(3)), prediction(10, predict, np.zeros(3))
    summary = summary_of(episode([quiet, loud], recorded))
    found = {kind: violation for kind, violation in summary.violations.items() if violation.count}
    assert {kind: [JOINTS[joint]] for kind, joint in kinds.items()} == {kind: v.joints for kind, v in found.items()}
    assert all(violation.count == 1 and violation.fraction == 0.5 for violation in found.values())
    assert summary.violating == (0.5 if kinds else 0.0)
    assert summary.recorded_violating == 0.0


def test_the_jump_guard_measures_from_the_state():
    recorded = recording(still, 1.0)
    far = prediction(0, still, np.array([0.0, -2.1, 0.0]))
    summary = summary_of(episode([far, prediction(5, still, np.zeros(3))], recorded))
    assert summary.violations["jump"].joints == ["elbow"] and summary.violations["jump"].fraction == 0.5
    assert summary.joints[1].jump_max == pytest.approx(2.1) and summary.joints[1].jump_mean == pytest.approx(1.05)


def test_recorded_motion_against_limits():
    """The operator's motion is checked against the same limits."""
    wild = recording(lambda times: still(times) + 0.5 * np.sin(40 * times)[:, None], 1.0)
    summary = summary_of(episode([prediction(0, still, np.zeros(3))], wild))
    assert summary.violating == 0.0 and summary.recorded_violating == 1.0
    assert summary.violations["velocity"].recorded_count == 1


def test_a_chunk_that_is_not_finite_is_no_error_but_a_violation():
    case = wave_episode()
    broken = replace(case.predictions[3], actions=np.full((10, 3), np.inf))
    summary = summary_of(replace(case, predictions=[*case.predictions[:3], broken]))
    assert summary.compared_predictions == 3 and summary.mae == pytest.approx(0, abs=1e-12)
    assert summary.violations["not finite"].count == 1
    json.dumps(asdict(metrics_of(replace(case, predictions=[broken]))), allow_nan=False)


def test_gripper_that_never_moves():
    """Recorded open from 2 to 3 of 4 s; predicted as measured in the observation."""
    recorded = recording(wave, 4.0)
    predictions = [
        prediction(step, lambda times, at=step: np.tile(recorded.positions[at], (10, 1)), recorded.positions[step])
        for step in range(0, 180, 5)
    ]
    summary = summary_of(episode(predictions, recorded))
    # Open from step 101 to 149. Of the predictions at 95 and 100, four and nine steps lie after the opening; of that at
    # 145, five after the closing.
    changes = 4 + 9 + 5
    assert summary.gripper_change_agreement == 0.0
    assert summary.gripper_agreement == pytest.approx(1 - changes / 360)


def test_gripper_that_hardly_moves():
    """A tremble about 0.2 of 0..1 is closed, whatever its own middle is."""
    recorded = recording(lambda times: at(0.0, 0.0, 0.2)(times) + 0.01 * np.sin(50 * times)[:, None], 1.0)
    ajar = prediction(0, at(0.0, 0.0, 0.4), recorded.positions[0])
    wide = prediction(0, at(0.0, 0.0, 0.6), recorded.positions[0])
    assert summary_of(episode([ajar], recorded)).gripper_agreement == 1.0
    assert summary_of(episode([wide], recorded)).gripper_agreement == 0.0


def test_backend_correlation():
    """Backends that agree up to scale have a correlation of 1."""
    case = wave_episode()
    scaled = [
        replace(each, reference=each.state + 1.1 * (each.actions - each.state))
        for each in case.predictions
        if each.stamp_ns
    ]
    reference = summary_of(replace(case, predictions=scaled)).reference
    assert reference.predictions == len(scaled)
    assert reference.pcc_lowest == pytest.approx(1.0) == pytest.approx(reference.pcc_mean)
    away = max(np.abs(each.actions - each.state).max() for each in case.predictions)
    assert reference.difference == pytest.approx(0.1 * away, rel=1e-5)
    opposite = [replace(each, reference=2 * each.state - each.actions) for each in case.predictions]
    assert summary_of(replace(case, predictions=opposite)).reference.pcc_mean == pytest.approx(-1.0)


def test_undefined_correlation():
    """A correlation that is not defined is reported as such."""
    case = wave_episode()
    first, second = case.predictions[:2]
    predictions = [
        replace(first, reference=np.full((10, 3), np.nan)),
        replace(second, reference=second.actions),
        case.predictions[2],  # has no reference
    ]
    reference = summary_of(replace(case, predictions=predictions)).reference
    assert (reference.predictions, reference.undefined) == (2, 1)
    assert reference.pcc_lowest == pytest.approx(1.0) and reference.difference == 0.0


def test_metrics_without_predictions():
    """Without a prediction there are no metrics."""
    summary = summary_of(episode([], recording(wave, 1.0)))
    assert summary.predictions == 0 and summary.unusable_fraction == 1.0
    for value in (summary.mae, summary.latency, summary.jerk_ratio, summary.reference, summary.violating):
        assert value is None
    nothing = Recording(np.empty(0, np.int64), np.empty((0, 3)))
    summary = summary_of(episode([prediction(0, wave, np.zeros(3))], nothing))
    assert summary.compared_predictions == 0 and summary.mae is None and summary.latency.p95 == 0.08


def test_latencies_frames_and_reasons():
    case = wave_episode()
    slow = [replace(each, latency=float(index)) for index, each in enumerate(case.predictions)]
    summary = summary_of(replace(case, predictions=slow))
    assert (summary.latency.p50, summary.latency.p95, summary.latency.max) == (20.0, 38.0, 40.0)
    assert summary.cameras["top"].dropped_fraction == pytest.approx(2 / 102)
    assert summary.unusable_fraction == pytest.approx(3 / 44)


def flat(value, path=()) -> dict:
    """Every leaf of nested dictionaries and lists by its path."""
    if isinstance(value, dict):
        return {key: leaf for name, each in value.items() for key, leaf in flat(each, (*path, name)).items()}
    if isinstance(value, list):
        return {key: leaf for index, each in enumerate(value) for key, leaf in flat(each, (*path, index)).items()}
    return {path: value}


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    references=st.booleans(),
    spoiled=st.booleans(),
)
def test_merged_episodes(seed, sizes, references, spoiled):
    """Merged episodes have the metrics of one episode with all their predictions."""
    random = np.random.default_rng(seed)
    recorded = recording(lambda times: random.uniform(-1, 1, (len(times), 3)), 1.0)
    predictions = []
    for step in np.sort(random.integers(0, 60, sum(sizes))):
        chunk, state = random.uniform(-3, 3, (10, 3)), random.uniform(-1, 1, 3)
        new = prediction(int(step), lambda times, chunk=chunk: chunk, state)
        new = replace(new, latency=random.uniform(), reference=random.uniform(-3, 3, (10, 3)) if references else None)
        if spoiled and random.uniform() < 0.2:
            new.actions[random.integers(10), random.integers(3)] = np.nan
        predictions.append(new)
    joined = replace(
        episode(predictions, recorded),
        joint_states=sum(sizes) + 5 * len(sizes),
        unusable={"a": len(sizes), "b": 2 * len(sizes)},
        frames={"top": Frames(10 * len(sizes), len(sizes), 0.5)},
        commands=CommandStream(7 * len(sizes), 0.5, {"velocity of elbow": len(sizes)}),
    )
    parts, first = [], 0
    for index, size in enumerate(sizes):
        parts.append(
            replace(
                joined,
                predictions=predictions[first : first + size],
                joint_states=size + 5,
                unusable={"a": 1, "b": 2},
                frames={"top": Frames(10, 1, 0.5 / (index + 1))},
                commands=CommandStream(7, 0.5 / (index + 1), {"velocity of elbow": 1}),
            )
        )
        first += size
    found, expected = merge_metrics([metrics_of(part) for part in parts]), metrics_of(joined)
    ours, theirs = flat(asdict(found)), flat(asdict(expected))
    assert ours.keys() == theirs.keys()
    for path, value in theirs.items():
        exact = not isinstance(value, float)
        assert ours[path] == (value if exact else pytest.approx(value, rel=1e-9, abs=1e-12)), path
    assert flat(asdict(summarize(found))) == {
        path: value if not isinstance(value, float) else pytest.approx(value, rel=1e-9, abs=1e-12)
        for path, value in flat(asdict(summarize(expected))).items()
    }


def test_metrics_are_independent_of_batches(monkeypatch):
    """The metrics of a long episode do not depend on the size of the batches."""
    case = wave_episode(lambda times: wave(times) + 0.1)
    whole = asdict(metrics_of(case))
    monkeypatch.setattr("pi0_ttnn_ros.replay.report.metrics.BATCH", 7)
    for path, value in flat(asdict(metrics_of(case))).items():
        assert flat(whole)[path] == (pytest.approx(value) if isinstance(value, float) else value), path


def test_episodes_of_different_robots_are_not_merged():
    other = replace(metrics_of(wave_episode()), joint_names=["a", "b", "gripper"])
    with pytest.raises(ValueError, match="different joints"):
        merge_metrics([metrics_of(wave_episode()), other])


def test_metrics_are_json():
    metrics = metrics_of(wave_episode())
    assert json.loads(json.dumps(asdict(metrics), allow_nan=False)) == asdict(metrics)
    assert metrics.joint_names == list(JOINTS) and START % STEP == 0
