"""Open-loop replay: predictions from a bag, wherever the node would have inferred."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ttnn_core.policy import Policy
from pi0_ttnn_core.policy_io import Observation, ObservationError
from pi0_ttnn_ros.bags.reader import Bag, open_bag
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.observation.buffer import Snapshot
from pi0_ttnn_ros.observation.decoding import observation_from_snapshot
from pi0_ttnn_ros.observation.images import ConversionError
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.topics import Topics
from pi0_ttnn_ros.replay.episode import Episode, Prediction, Scene
from pi0_ttnn_ros.replay.feed import BagFeed
from pi0_ttnn_ros.replay.options import MEASURED, RECORDED
from pi0_ttnn_ros.replay.predictions import Predictions
from pi0_ttnn_ros.replay.prefetch import prefetched
from pi0_ttnn_ros.replay.recorded_chunks import chunk_observations, recorded_chunks


@dataclass(frozen=True)
class Replay:
    """What replays bags: the loaded policies, and where and against what they predict.

    Attributes:
        run: JSON of all that decides what is predicted, except the bag.
        ground_truth, reference, stride: see `Options`.
        reference_policy: infers where `reference` is a backend.
    """

    parameters: Parameters
    topics: Topics
    policy: Policy
    run: dict[str, Any]
    ground_truth: str = MEASURED
    reference: str = ""
    stride: int = 1
    reference_policy: Policy | None = None


@dataclass(frozen=True)
class InferencePoint:
    """One moment of a bag at which the policy infers.

    Attributes:
        time_ns: receive time of the message that completed the inputs.
        snapshot: the inputs; images are not decoded.
        recorded: float32 [horizon, joints], rad or m. The recorded chunk's actions; None without one.
    """

    time_ns: int
    snapshot: Snapshot
    recorded: np.ndarray | None = None


@dataclass(frozen=True)
class _Prepared:
    """An inference point with its images decoded.

    Attributes:
        observation: or why there is none.
        seconds: that decoding took.
    """

    point: InferencePoint
    observation: Observation | Exception
    seconds: float


def replay_bag(path: Path, replay: Replay, folder: Path, progress: Callable[[float], None]) -> Episode:
    """Return what the policy predicts on a bag; predictions already in `folder` are not repeated.

    `progress` is called with the fraction of the bag that is done.

    Raises:
        BagError: the bag cannot be used at all.
        ReplayError: `folder` holds the predictions of another run.
    """
    with open_bag(path) as bag:
        feed = BagFeed(bag, replay.topics, replay.parameters)
        run = replay.run | {"bag": str(path.resolve()), "start_ns": bag.start_ns, "end_ns": bag.end_ns}
        joint_names = replay.parameters.joint_names
        with Predictions(
            folder, run, replay.policy.action_horizon, len(joint_names), bool(replay.reference)
        ) as predictions:
            done = {prediction.stamp_ns for prediction in predictions.read()}
            duration_ns = max(bag.end_ns - bag.start_ns, 1)
            points = (point for point in _inference_points(bag, feed, replay) if point.snapshot.stamp_ns not in done)
            # The next images are decoded while the policy infers.
            for prepared in prefetched(partial(_prepare, joint_names=joint_names), points, workers=1):
                progress((prepared.point.time_ns - bag.start_ns) / duration_ns)
                try:
                    predictions.add(_predict(prepared, replay))
                except (BagError, ConversionError, ObservationError) as error:
                    feed.unusable[str(error)] += 1
            progress(1.0)
            return Episode(
                bag=path,
                start_ns=bag.start_ns,
                end_ns=bag.end_ns,
                predictions=sorted(predictions.read(), key=lambda prediction: prediction.stamp_ns),
                recording=feed.recording(replay.ground_truth),
                ground_truth=replay.ground_truth,
                unusable=dict(feed.unusable),
                joint_states=feed.joint_states,
                frames=feed.frames(),
                problems=list(bag.problems),
            )


def scenes(path: Path, replay: Replay, stamps_ns: Collection[int]) -> dict[int, Scene]:
    """Return what the policy saw at the predictions of these stamps."""
    wanted, joint_names = set(stamps_ns), replay.parameters.joint_names
    with open_bag(path) as bag:
        feed = BagFeed(bag, replay.topics, replay.parameters)
        snapshots = (point.snapshot for point in _inference_points(bag, feed, replay))
        shown = [snapshot for snapshot in snapshots if snapshot.stamp_ns in wanted]
        observations = [observation_from_snapshot(snapshot, joint_names) for snapshot in shown]
    return {seen.stamp_ns: Scene(seen.images, seen.instruction) for seen in observations}


def _inference_points(bag: Bag, feed: BagFeed, replay: Replay) -> Iterator[InferencePoint]:
    """Yield where to infer; once exhausted, `feed` has read the whole bag."""
    if replay.reference == RECORDED:
        chunks = recorded_chunks(bag, replay.topics, replay.parameters.joint_names, replay.policy.action_horizon)
        for time_ns, snapshot, chunk in chunk_observations(bag, replay.topics, chunks[:: replay.stride]):
            yield InferencePoint(time_ns, snapshot, chunk.actions)
    for index, (time_ns, snapshot) in enumerate(feed.snapshots()):
        if replay.reference != RECORDED and index % replay.stride == 0:
            yield InferencePoint(time_ns, snapshot)


def _prepare(point: InferencePoint, joint_names: list[str]) -> _Prepared:
    start = time.perf_counter()
    observation: Observation | Exception
    try:
        observation = observation_from_snapshot(point.snapshot, joint_names)
    except (BagError, ConversionError) as error:
        observation = error
    return _Prepared(point, observation, time.perf_counter() - start)


def _predict(prepared: _Prepared, replay: Replay) -> Prediction:
    observation = prepared.observation
    if isinstance(observation, Exception):
        raise observation
    start = time.perf_counter()
    chunk = replay.policy.infer(observation)
    latency = prepared.seconds + time.perf_counter() - start
    other = replay.reference_policy
    reference = other.infer(observation).actions if other else prepared.point.recorded
    return Prediction(chunk.stamp_ns, observation.state, chunk.actions, chunk.inference_time, latency, reference)
