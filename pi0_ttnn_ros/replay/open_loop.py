"""A recorded bag through the policy, open loop: what it would have done wherever the node would have inferred.

Knows nothing of ROS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ttnn_core.policy import Policy
from pi0_ttnn_core.policy_io import Observation, ObservationError
from pi0_ttnn_ros.bags.reader import Bag, open_bag
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.observation.buffer import Snapshot
from pi0_ttnn_ros.observation.decoding import ConversionError, observation_from_snapshot
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import Topics
from pi0_ttnn_ros.replay.episode import Episode, Prediction, Scene
from pi0_ttnn_ros.replay.feed import BagFeed
from pi0_ttnn_ros.replay.predictions import Predictions
from pi0_ttnn_ros.replay.prefetch import prefetched
from pi0_ttnn_ros.replay.recorded_chunks import observations_of, recorded_chunks

RECORDED = "recorded"

# A receive time in nanoseconds, the inputs, and the actions that were recorded for them.
InferencePoint = tuple[int, Snapshot, np.ndarray | None]


@dataclass(frozen=True)
class Comparison:
    """What the predictions are compared with.

    truth: the recorded motion: "joint_states" or "commands"
    against: another backend with the same noise, or RECORDED: the chunks that a node recorded; empty: neither
    every: infer on every so manieth occasion only
    """

    truth: str = "joint_states"
    against: str = ""
    every: int = 1


@dataclass(frozen=True)
class Replay:
    """How bags are replayed: with which policy, with which one beside it for comparison, and as which robot.

    run: JSON of all that decides what is predicted
    """

    parameters: Parameters
    topics: Topics
    comparison: Comparison
    policy: Policy
    reference: Policy | None
    run: dict[str, Any]


@dataclass(frozen=True)
class _Prepared:
    """An occasion with its images decoded, or with why they could not be, and the seconds that it took."""

    at: int
    observation: Observation | Exception
    recorded: np.ndarray | None
    seconds: float


def replay_bag(path: Path, replay: Replay, folder: Path, progress: Callable[[float], None]) -> Episode:
    """Return what the policy predicts on a bag; predictions in `folder` that an earlier call made are not made again.

    `progress` is told which fraction of the bag is done.

    Raises:
        BagError: the bag cannot be used at all.
        ReplayError: `folder` holds the predictions of another run.
    """
    with open_bag(path) as bag:
        feed = BagFeed(bag, replay.topics, replay.parameters)
        run = replay.run | {"bag": str(path.resolve()), "start": bag.start, "end": bag.end}
        joints = len(replay.parameters.joint_names)
        with Predictions(
            folder, run, replay.policy.action_horizon, joints, bool(replay.comparison.against)
        ) as predictions:
            done = {tick.stamp_ns for tick in predictions.ticks()}
            duration = max(bag.end - bag.start, 1)
            due = (occasion for occasion in _occasions(bag, feed, replay) if occasion[1].stamp_ns not in done)
            # While the policy infers, the next images are decoded.
            for prepared in prefetched(partial(_prepare, joint_names=replay.parameters.joint_names), due, workers=1):
                progress((prepared.at - bag.start) / duration)
                try:
                    predictions.add(_predict(prepared, replay))
                except (BagError, ConversionError, ObservationError) as error:
                    feed.unusable[str(error)] += 1
            progress(1.0)
            return Episode(
                bag=path,
                start=bag.start,
                end=bag.end,
                ticks=sorted(predictions.ticks(), key=lambda tick: tick.stamp_ns),
                recording=feed.recording(replay.comparison.truth),
                truth=replay.comparison.truth,
                unusable=dict(feed.unusable),
                joint_states=feed.joint_states,
                frames=feed.frames(),
                problems=list(bag.problems),
            )


def scenes(path: Path, replay: Replay, stamps: Collection[int]) -> dict[int, Scene]:
    """Return what the policy saw at the ticks `stamps` (nanoseconds)."""
    wanted, names = set(stamps), replay.parameters.joint_names
    with open_bag(path) as bag:
        feed = BagFeed(bag, replay.topics, replay.parameters)
        snapshots = [snapshot for _, snapshot, _ in _occasions(bag, feed, replay) if snapshot.stamp_ns in wanted]
        observations = [observation_from_snapshot(_decoded(snapshot), names) for snapshot in snapshots]
    return {seen.stamp_ns: Scene(seen.images, seen.instruction) for seen in observations}


def _occasions(bag: Bag, feed: BagFeed, replay: Replay) -> Iterator[InferencePoint]:
    """Yield where to infer; when the last was taken, `feed` has read the whole bag."""
    every = replay.comparison.every
    if replay.comparison.against == RECORDED:
        chunks = recorded_chunks(bag, replay.topics, replay.parameters.joint_names, replay.policy.action_horizon)
        for at, snapshot, chunk in observations_of(bag, replay.topics, chunks[::every]):
            yield at, snapshot, chunk.actions
    for index, (at, snapshot) in enumerate(feed.snapshots()):
        if replay.comparison.against != RECORDED and index % every == 0:
            yield at, snapshot, None


def _prepare(occasion: InferencePoint, joint_names: list[str]) -> _Prepared:
    at, snapshot, recorded = occasion
    start = time.perf_counter()
    observation: Observation | Exception
    try:
        observation = observation_from_snapshot(_decoded(snapshot), joint_names)
    except (BagError, ConversionError) as error:
        observation = error
    return _Prepared(at, observation, recorded, time.perf_counter() - start)


def _predict(prepared: _Prepared, replay: Replay) -> Prediction:
    observation = prepared.observation
    if isinstance(observation, Exception):
        raise observation
    start = time.perf_counter()
    chunk = replay.policy.infer(observation)
    latency = prepared.seconds + time.perf_counter() - start
    reference = replay.reference.infer(observation).actions if replay.reference else prepared.recorded
    return Prediction(chunk.stamp_ns, observation.state, chunk.actions, chunk.inference_time, latency, reference)


def _decoded(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, images={camera: message.decode() for camera, message in snapshot.images.items()})
