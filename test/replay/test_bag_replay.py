"""A bag through the policy: it is asked where the node would ask it, with what the node would have seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS
from pi0_ttnn_core.policy import load_policy
from pi0_ttnn_core.policy_io import Observation
from pi0_ttnn_ros.bags.reader import open_bag
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from pi0_ttnn_ros.parameters.topics import topics_of
from pi0_ttnn_ros.replay.feed import BagFeed
from pi0_ttnn_ros.replay.open_loop import Replay, replay_bag, scenes
from pi0_ttnn_ros.replay.predictions import ReplayError
from support.bags import (
    DELAY,
    IMAGE_PERIOD,
    JOINT_PERIOD,
    LEAD,
    PARAMETERS,
    SECOND,
    START,
    image,
    messages,
    motion,
    write_bag,
)

SECONDS = 1.0
RATE = 5.0


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    file = tmp_path_factory.mktemp("robot") / "robot.yaml"
    file.write_text(PARAMETERS)
    return file


@pytest.fixture(scope="module")
def policy(tiny_checkpoint, robot):
    parameters = parameters_from_yaml(robot, {"checkpoint": str(tiny_checkpoint)})
    return load_policy(tiny_checkpoint, "torch", parameters.robot, num_steps=2)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return write_bag(tmp_path_factory.mktemp("bags") / "bag", messages(SECONDS))


def replay_of(robot, policy, **changes) -> Replay:
    parameters = parameters_from_yaml(robot, {"checkpoint": str(policy.checkpoint.folder)} | changes)
    return Replay(parameters, topics_of(parameters), policy, {"seed": 0})


def replayed(bag, folder, replay):
    return replay_bag(bag, replay, folder, lambda fraction: None)


def expected_stamps() -> list[int]:
    """Each new joint state once the first images are there and 1 / RATE has passed."""
    stamps = [START]
    for offset in range(0, int(SECONDS * SECOND), JOINT_PERIOD):
        if START + offset >= stamps[-1] + SECOND / RATE:
            stamps.append(START + offset)
    return stamps


def test_inference_points(bag, robot, policy, tmp_path):
    """The policy infers at the joint states at which the node would."""
    episode = replayed(bag, tmp_path, replay_of(robot, policy))
    assert [prediction.stamp_ns for prediction in episode.predictions] == expected_stamps()
    assert (episode.joint_states, episode.unusable) == (SECONDS * SECOND // JOINT_PERIOD, {})


def test_prediction_uses_newest_inputs(bag, robot, policy, tmp_path):
    """A prediction is the policy's for the newest inputs at that moment."""
    for prediction in replayed(bag, tmp_path, replay_of(robot, policy)).predictions:
        # An image is received later than joint states of the same stamp.
        newest = prediction.stamp_ns - (prediction.stamp_ns - START) % IMAGE_PERIOD
        newest -= IMAGE_PERIOD if newest + DELAY > prediction.stamp_ns and newest > START else 0
        images = {camera: image(newest, camera).data.reshape(48, 64, 3) for camera in CAMERAS}
        state = motion((prediction.stamp_ns - START) * 1e-9).astype(np.float32)
        expected = policy.infer(Observation(images, state, "wave", prediction.stamp_ns))
        np.testing.assert_array_equal(prediction.actions, expected.actions)
        np.testing.assert_array_equal(prediction.state, state)


def test_ground_truth_topics(bag, robot, policy, tmp_path):
    """The ground truth is the measured or the commanded motion."""
    replay = replay_of(robot, policy)
    measured = replayed(bag, tmp_path / "measured", replay).recording
    np.testing.assert_allclose(measured.positions, motion((measured.times_ns - START) * 1e-9), atol=1e-6)
    commands = dataclasses.replace(replay, ground_truth="commands")
    commanded = replayed(bag, tmp_path / "commanded", commands).recording
    np.testing.assert_allclose(commanded.positions, motion((commanded.times_ns - START) * 1e-9 + LEAD), atol=1e-6)


def test_stride(bag, robot, policy, tmp_path):
    """`stride` takes each n-th inference point."""
    replay = dataclasses.replace(replay_of(robot, policy), stride=2)
    assert [prediction.stamp_ns for prediction in replayed(bag, tmp_path, replay).predictions] == expected_stamps()[::2]


def test_camera_that_stops(robot, policy, tmp_path):
    """After a camera stops, joint states have no observation, and the reason is counted."""
    dead, missed = CAMERAS[1], START + int(0.4 * SECOND)
    contents = [m for m in messages(1.6) if m.topic != f"/{dead}/image" or m.time < missed]
    episode = replayed(write_bag(tmp_path / "bag", contents), tmp_path / "out", replay_of(robot, policy))
    # The last image of 0.4 s is 0.5 s old, image_timeout, at 0.86 s.
    last = max(m.time for m in contents if m.topic == f"/{dead}/image") - 2 * DELAY
    too_late = sum(last + 0.5 * SECOND < START + offset + DELAY for offset in range(0, int(1.6 * SECOND), JOINT_PERIOD))
    # Before it is too old by itself it is further from the others than sync_tolerance.
    apart = "synchronisation: stamps further apart than sync_tolerance"
    assert episode.unusable == {f"{dead}: missing or too old": too_late, apart: episode.unusable[apart]}
    assert max(prediction.stamp_ns for prediction in episode.predictions) <= last + 0.1 * SECOND


def test_images_that_were_lost_are_counted(robot, policy, tmp_path):
    camera = CAMERAS[0]
    lost = {START + 2 * DELAY + number * IMAGE_PERIOD for number in (5, 6, 11)}
    contents = [m for m in messages(SECONDS) if m.topic != f"/{camera}/image" or m.time not in lost]
    episode = replayed(write_bag(tmp_path / "bag", contents), tmp_path / "out", replay_of(robot, policy))
    assert episode.frames[camera].dropped == 3
    assert episode.frames[camera].longest_gap == pytest.approx(3 * IMAGE_PERIOD * 1e-9)
    assert {name: frames.dropped for name, frames in episode.frames.items() if name != camera} == {
        name: 0 for name in CAMERAS[1:]
    }


def test_an_image_that_cannot_be_read_is_a_reason(robot, policy, tmp_path):
    contents = messages(SECONDS)
    for message in contents:
        if message.topic == f"/{CAMERAS[0]}/image":
            message.content.encoding = "16UC1"
    episode = replayed(write_bag(tmp_path / "bag", contents), tmp_path / "out", replay_of(robot, policy))
    assert episode.predictions == []
    assert len(episode.unusable) == 1 and "encoding '16UC1'" in next(iter(episode.unusable))


def test_interrupted_replay_resumes(bag, robot, policy, tmp_path):
    """An interrupted replay resumes where it stopped."""
    replay = replay_of(robot, policy)

    class Interrupted(Exception):
        pass

    def interrupt(fraction: float) -> None:
        if fraction > 0.5:
            raise Interrupted

    with pytest.raises(Interrupted):
        replay_bag(bag, replay, tmp_path / "twice", interrupt)
    file = tmp_path / "twice/predictions.bin"
    made = file.read_bytes()
    file.write_bytes(made[:-7])  # as a power cut leaves it
    resumed = replayed(bag, tmp_path / "twice", replay)
    assert 0 < len(made) < file.stat().st_size
    # The times that inferences took tell which were made anew.
    assert file.read_bytes()[: len(made) // 2] == made[: len(made) // 2]
    whole = replayed(bag, tmp_path / "once", replay)
    for one, other in zip(resumed.predictions, whole.predictions, strict=True):
        assert one.stamp_ns == other.stamp_ns
        np.testing.assert_array_equal(one.actions, other.actions)


def test_predictions_of_another_run_are_not_mixed_in(bag, robot, policy, tmp_path):
    replay = replay_of(robot, policy)
    replayed(bag, tmp_path, replay)
    with pytest.raises(ReplayError, match="predictions of another run, with another seed"):
        replayed(bag, tmp_path, dataclasses.replace(replay, run={"seed": 1}))


def test_observed_images_of_a_prediction(bag, robot, policy):
    """The images that the policy received at a prediction can be read again."""
    stamp_ns = expected_stamps()[2]
    seen = scenes(bag, replay_of(robot, policy), [stamp_ns])
    assert seen.keys() == {stamp_ns} and seen[stamp_ns].images.keys() == set(CAMERAS)
    assert seen[stamp_ns].instruction == "wave"
    assert all(pixels.shape == (48, 64, 3) for pixels in seen[stamp_ns].images.values())


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({f"{CAMERAS[0]}.topic": "a/image"}, "/a/image is not in the bag: correct its name"),
        (
            {f"{n}.topic": f"{n}/image/compressed" for n in CAMERAS},
            "/compressed is not in the bag: the bag has",
        ),
        ({"joint_state_topic": "pi0_policy/instruction"}, "is of type std_msgs/msg/String, expected .*JointState"),
    ],
)
def test_a_bag_that_lacks_what_the_node_needs_is_refused(changes, culprit, bag, robot, policy):
    replay = replay_of(robot, policy, **changes)
    with open_bag(bag) as opened, pytest.raises(BagError, match=culprit):
        BagFeed(opened, replay.topics, replay.parameters)


def test_a_bag_without_an_instruction_needs_one(robot, policy, tmp_path):
    bag = write_bag(tmp_path / "bag", [m for m in messages(0.1) if m.topic != "/pi0_policy/instruction"])
    with pytest.raises(BagError, match="give one with --instruction"):
        replayed(bag, tmp_path / "out", replay_of(robot, policy))
    assert replayed(bag, tmp_path / "out", replay_of(robot, policy, instruction="wave")).predictions
