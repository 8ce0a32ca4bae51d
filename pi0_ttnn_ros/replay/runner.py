"""Replay bags and write one report on all of them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from pi0_ttnn_core.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pi0_ttnn_core.policy import Policy, load_policy
from pi0_ttnn_core.processing.pipeline import ProcessingPipeline, build_pipeline
from pi0_ttnn_core.processing.transforms import encode_actions
from pi0_ttnn_ros.bags.files import find_bags
from pi0_ttnn_ros.bags.reader import open_bag
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.parameters.declarations import ParameterError
from pi0_ttnn_ros.parameters.joint_limits import joint_limits
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from pi0_ttnn_ros.parameters.topics import Topics, topics_of
from pi0_ttnn_ros.replay.episode import Episode
from pi0_ttnn_ros.replay.open_loop import Replay, replay_bag, scenes
from pi0_ttnn_ros.replay.options import LIVE, Options
from pi0_ttnn_ros.replay.predictions import ReplayError
from pi0_ttnn_ros.replay.report.excerpts import Scenes
from pi0_ttnn_ros.replay.report.metrics import episode_metrics
from pi0_ttnn_ros.replay.report.report import bag_report, reproduction, write_report
from pi0_ttnn_ros.replay.report.schema import BagReport
from pi0_ttnn_ros.replay.report.thresholds import ReplaySettings, replay_settings

# Called with the name of a bag and the fraction of all bags that is done.
Progress = Callable[[str, float], None]
# The report on a bag, or why the bag cannot be used.
Result = BagReport | str


@dataclass(frozen=True)
class Outcome:
    """The outcome of replaying bags.

    Attributes:
        passed: whether the verdict is a pass; None: no bag could be used, and there is no report.
        left_out: a line for each bag that could not be used: which and why.
    """

    passed: bool | None
    left_out: list[str]


def replay_bags(paths: Sequence[Path], options: Options, command: str, progress: Progress) -> Outcome:
    """Replay all bags that `paths` name and write one report, which gives `command` as the way to reproduce it.

    Raises:
        BackendError, BagError, CheckpointError, OSError, ParameterError, ReplayError, RobotError, TokenizerError: what
            is wrong, and the remedy.
    """
    parameters = parameters_from_yaml(options.robot, options.overrides)
    settings = replay_settings(options.robot, parameters.joint_names)
    bags = list(dict.fromkeys(bag for path in paths for bag in find_bags(path)))
    _check(options, parameters, bags)
    checkpoint = open_checkpoint(parameters.checkpoint, parameters.robot.normalization_key)
    # Computed once: the digest reads every file of the checkpoint.
    digest = checkpoint.digest()
    if options.mode == LIVE:
        finished = _replay_live(bags, options, parameters, settings, checkpoint)
    elif options.jobs > 1 and len(bags) > 1:
        finished = _replay_in_processes(bags, options, settings, digest)
    else:
        finished = _replay_in_turn(bags, options, settings, digest, progress)
    results: dict[Path, Result] = {}
    for bag, result in finished:
        results[bag] = result
        progress(bag.name, len(results) / len(bags))
    reports = [result for bag in bags if isinstance(result := results[bag], BagReport)]
    left_out = [result for bag in bags if isinstance(result := results[bag], str)]
    if not reports:
        return Outcome(None, left_out)
    how = reproduction(parameters, command, digest, options.reference)
    return Outcome(write_report(reports, settings.thresholds, how, options.out, left_out), left_out)


def load_replay(options: Options, digest: str) -> Replay:
    """Load what an open-loop replay needs; `digest` is the checkpoint's."""
    parameters = parameters_from_yaml(options.robot, options.overrides)
    policy = _load(parameters, parameters.backend)
    return Replay(
        parameters,
        topics_of(parameters, options.namespace),
        policy,
        _describe_run(parameters, options, policy, digest),
        options.ground_truth,
        options.reference,
        options.stride,
        _load(parameters, options.reference_backend) if options.reference_backend else None,
    )


def bag_limits(bag: Path, topics: Topics, parameters: Parameters) -> Limits:
    """Return the robot's limits, checked against the URDF in the bag; it gives those that the parameters leave out."""

    def urdf(missing: list[str]) -> str:
        with open_bag(bag) as opened:
            if not missing and topics.robot_description not in opened.topics:
                return ""
            for message in opened.messages([topics.robot_description]):
                return str(message.decode().data)
        raise ParameterError(f"parameters {missing} are not set, and {bag} has no {topics.robot_description}")

    return joint_limits(parameters, urdf)


def _check(options: Options, parameters: Parameters, bags: list[Path]) -> None:
    names = [bag.name for bag in bags]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ReplayError(f"several bags are called {duplicates}: replay them one by one, each with its own --out")
    if options.jobs > 1 and "ttnn" in (parameters.backend, options.reference):
        raise ReplayError("--jobs with backend ttnn: a card serves one process at a time")
    if options.mode == LIVE and (options.reference or options.stride > 1 or options.jobs > 1):
        raise ReplayError("--mode live judges what the node answers: give no --reference, --stride or --jobs")


def _replay_in_turn(
    bags: list[Path], options: Options, settings: ReplaySettings, digest: str, progress: Progress
) -> Iterator[tuple[Path, Result]]:
    replay = load_replay(options, digest)
    for index, bag in enumerate(bags):

        def show(fraction: float, bag: Path = bag, index: int = index) -> None:
            progress(bag.name, (index + fraction) / len(bags))

        yield bag, _replay_open_loop(bag, replay, options.out, settings, show)


def _replay_in_processes(
    bags: list[Path], options: Options, settings: ReplaySettings, digest: str
) -> Iterator[tuple[Path, Result]]:
    # Inherited by the processes, which have yet to import torch.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.jobs))
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(_replay_in_process, bag, options, settings, digest): bag for bag in bags}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _replay_in_process(bag: Path, options: Options, settings: ReplaySettings, digest: str) -> Result:
    return _replay_open_loop(bag, _loaded_once(options, digest), options.out, settings, lambda fraction: None)


# Each process replays several bags with the same policies.
_loaded_once = cache(load_replay)


def _replay_open_loop(
    bag: Path, replay: Replay, out: Path, settings: ReplaySettings, progress: Callable[[float], None]
) -> Result:
    try:
        limits = bag_limits(bag, replay.topics, replay.parameters)
        episode = replay_bag(bag, replay, out / bag.name, progress)
        pipeline = replay.policy.pipeline
        return _report(episode, replay.parameters, limits, settings, pipeline, partial(scenes, bag, replay))
    except BagError as error:
        return str(error)


def _replay_live(
    bags: list[Path], options: Options, parameters: Parameters, settings: ReplaySettings, checkpoint: Checkpoint
) -> Iterator[tuple[Path, Result]]:
    """Play each bag into the running node."""
    try:
        from pi0_ttnn_ros.replay.live import play_bag
    except ImportError as error:
        raise ReplayError(f"--mode live needs ROS 2 ({error}): source it and this package") from error
    pipeline = build_pipeline(checkpoint, parameters.robot)
    topics = topics_of(parameters, options.namespace)
    for bag in bags:
        try:
            limits = bag_limits(bag, topics, parameters)
            episode = play_bag(bag, parameters, topics, limits, options.ground_truth)
            yield bag, _report(episode, parameters, limits, settings, pipeline, lambda stamps_ns: {})
        except BagError as error:
            yield bag, str(error)


def _report(
    episode: Episode,
    parameters: Parameters,
    limits: Limits,
    settings: ReplaySettings,
    pipeline: ProcessingPipeline,
    episode_scenes: Scenes,
) -> BagReport:
    normalize = partial(encode_actions, pipeline.transforms)
    metrics = episode_metrics(episode, parameters, limits, settings.grippers, normalize)
    return bag_report(episode, metrics, parameters, limits, normalize, settings.thresholds, episode_scenes)


def _load(parameters: Parameters, backend: str) -> Policy:
    return load_policy(
        parameters.checkpoint,
        backend,
        parameters.robot,
        parameters.dtype,
        parameters.precision,
        parameters.num_steps or None,
        parameters.seed,
        device_id=parameters.device_id,
    )


def _describe_run(parameters: Parameters, options: Options, policy: Policy, digest: str) -> dict[str, Any]:
    """Return, as JSON, all that decides what is predicted, except the bag."""
    model = ("backend", "dtype", "precision", "num_steps", "seed", "instruction")
    inputs = ("joint_names", "joint_state_topic", "inference_rate", "sync_tolerance", "input_timeouts")
    values = {name: getattr(parameters, name) for name in (*model, *inputs)}
    return values | {
        "cameras": {name: camera.topic for name, camera in parameters.cameras.items()},
        "checkpoint": digest,
        "transforms": [str(transform) for transform in policy.pipeline.transforms],
        "stride": options.stride,
        "reference": options.reference,
    }
