"""Bags through the policy, and one report that says whether to trust it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pi0_ttnn_core.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pi0_ttnn_core.policy import Policy, load_policy
from pi0_ttnn_core.processing.pipeline import ProcessingPipeline, build_pipeline
from pi0_ttnn_core.processing.transforms import encode_actions
from pi0_ttnn_ros.bags.files import find_bags
from pi0_ttnn_ros.bags.reader import open_bag
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.execution.safety import Limits
from pi0_ttnn_ros.parameters.joint_limits import joint_limits
from pi0_ttnn_ros.parameters.parameters import ParameterError, Parameters, parameters_from_yaml
from pi0_ttnn_ros.parameters.topics import Topics, topics_of
from pi0_ttnn_ros.replay.episode import Episode
from pi0_ttnn_ros.replay.open_loop import RECORDED, Comparison, Replay, replay_bag, scenes
from pi0_ttnn_ros.replay.predictions import ReplayError
from pi0_ttnn_ros.replay.report.excerpts import Scenes
from pi0_ttnn_ros.replay.report.metrics import episode_metrics
from pi0_ttnn_ros.replay.report.report import bag_report, reproduction, write_report
from pi0_ttnn_ros.replay.report.schema import BagReport
from pi0_ttnn_ros.replay.report.thresholds import replay_settings

BAR = "{desc}: {percentage:3.0f} % {bar} {elapsed}, {remaining} left"


@dataclass(frozen=True)
class Options:
    """How bags are replayed. `overrides` go before the robot's YAML."""

    robot: Path
    overrides: dict[str, Any]
    namespace: str
    comparison: Comparison
    live: bool
    jobs: int
    out: Path

    @property
    def reference(self) -> str:
        """The second backend, or empty."""
        return self.comparison.against if self.comparison.against != RECORDED else ""


@dataclass(frozen=True)
class Outcome:
    """Whether the verdict passes, None where no bag could be used; and why which bags were left out."""

    passed: bool | None
    left_out: list[str]


def replay_bags(paths: Sequence[Path], options: Options, command: str) -> Outcome:
    """Replay all bags that `paths` name and write one report; `command` is what the report says to reproduce it with.

    Raises:
        BackendError, BagError, CheckpointError, OSError, ParameterError, ReplayError, RobotError, TokenizerError: with
            what is wrong and the remedy.
    """
    robot = _Robot(options)
    bags = list(dict.fromkeys(bag for path in paths for bag in find_bags(path)))
    _check(options, robot.parameters, bags)
    checkpoint = open_checkpoint(robot.parameters.checkpoint, robot.parameters.robot.normalization_key)
    # Read whole for it, so once only.
    digest = checkpoint.digest()
    if options.live:
        outcomes = dict(_live_reports(bags, robot, checkpoint, options.comparison.truth))
    else:
        outcomes = dict(_reports(bags, options, digest))
    reports = [outcome for bag in bags if isinstance(outcome := outcomes[bag], BagReport)]
    left_out = [outcome for bag in bags if isinstance(outcome := outcomes[bag], str)]
    if not reports:
        return Outcome(None, left_out)
    made = reproduction(robot.parameters, command, digest, options.comparison.against)
    return Outcome(write_report(reports, robot.settings.thresholds, made, options.out, left_out), left_out)


def _check(options: Options, parameters: Parameters, bags: list[Path]) -> None:
    names = [bag.name for bag in bags]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ReplayError(f"several bags are called {doubled}: replay them one by one, each with its own --out")
    if options.jobs > 1 and "ttnn" in (parameters.backend, options.reference):
        raise ReplayError("--jobs with backend ttnn: a card serves one process at a time")
    if options.live and (options.comparison.against or options.comparison.every > 1 or options.jobs > 1):
        raise ReplayError("--live judges what the node answers: without --against, --every and --jobs")


def _reports(bags: list[Path], options: Options, digest: str) -> Iterator[tuple[Path, BagReport | str]]:
    """Yield the report of each bag, or why there is none."""
    if options.jobs == 1 or len(bags) == 1:
        replayer = _Replayer(options, digest)
        for bag in bags:
            with tqdm(desc=bag.name, total=1.0, bar_format=BAR, disable=None) as bar:
                yield bag, replayer.report(bag, partial(_show, bar))
        return
    # For the processes, which do not have torch yet.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.jobs))
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(_report_in_process, bag, options, digest): bag for bag in bags}
        for future in tqdm(as_completed(futures), total=len(bags), unit="bag", disable=None):
            yield futures[future], future.result()


def _show(bar: tqdm[Any], fraction: float) -> None:
    bar.update(fraction - bar.n)


_of_process: _Replayer | None = None


def _report_in_process(bag: Path, options: Options, digest: str) -> BagReport | str:
    global _of_process
    if _of_process is None:
        _of_process = _Replayer(options, digest)
    return _of_process.report(bag, lambda fraction: None)


class _Robot:
    """What the replays of all bags have in common, whichever way they are replayed."""

    def __init__(self, options: Options) -> None:
        self.parameters = parameters_from_yaml(options.robot, options.overrides)
        self.topics = topics_of(self.parameters, options.namespace)
        self.settings = replay_settings(options.robot, self.parameters.joint_names)

    def report(self, episode: Episode, limits: Limits, steps: ProcessingPipeline, seen: Scenes) -> BagReport:
        normalize = partial(encode_actions, steps.transforms)
        metrics = episode_metrics(episode, self.parameters, limits, self.settings.grippers, normalize)
        return bag_report(episode, metrics, self.parameters, limits, normalize, self.settings.thresholds, seen)


class _Replayer:
    """Replays bags open loop: holds the policy, and the one that it is compared with."""

    def __init__(self, options: Options, digest: str) -> None:
        self._robot = robot = _Robot(options)
        policy = _load(robot.parameters, robot.parameters.backend)
        reference = _load(robot.parameters, options.reference) if options.reference else None
        run = _run_of(robot.parameters, options.comparison, policy, digest)
        self._replay = Replay(robot.parameters, robot.topics, options.comparison, policy, reference, run)
        self._out = options.out

    def report(self, bag: Path, progress: Callable[[float], None]) -> BagReport | str:
        """Return the report of a bag, or why it cannot be used."""
        robot = self._robot
        try:
            limits = bag_limits(bag, robot.topics, robot.parameters)
            episode = replay_bag(bag, self._replay, self._out / bag.name, progress)
            return robot.report(episode, limits, self._replay.policy.pipeline, partial(scenes, bag, self._replay))
        except BagError as error:
            return str(error)


def _live_reports(
    bags: list[Path], robot: _Robot, checkpoint: Checkpoint, truth: str
) -> Iterator[tuple[Path, BagReport | str]]:
    """Yield the report of each bag, played into the running node, or why there is none."""
    try:
        from pi0_ttnn_ros.replay.live import play_bag
    except ImportError as error:
        raise ReplayError(f"--live needs ROS 2 ({error}): source it and this package") from error
    steps = build_pipeline(checkpoint, robot.parameters.robot)
    for bag in bags:
        try:
            limits = bag_limits(bag, robot.topics, robot.parameters)
            episode = play_bag(bag, robot.parameters, robot.topics, limits, truth)
            yield bag, robot.report(episode, limits, steps, lambda stamps: {})
        except BagError as error:
            yield bag, str(error)


def _load(parameters: Parameters, backend: str) -> Policy:
    return load_policy(
        parameters.checkpoint,
        backend,
        parameters.robot,
        parameters.dtype,
        parameters.precision,
        parameters.num_steps or None,
        parameters.seed,
    )


def _run_of(parameters: Parameters, comparison: Comparison, policy: Policy, digest: str) -> dict[str, Any]:
    """Return, as JSON, all that decides what is predicted, beside the bag."""
    decisive = ("backend", "dtype", "precision", "num_steps", "seed", "instruction", "cameras", "camera_topics")
    inputs = ("joint_names", "joint_state_topic", "inference_rate", "sync_tolerance", "input_timeouts")
    values = {name: getattr(parameters, name) for name in (*decisive, *inputs)}
    return values | {
        "checkpoint": digest,
        "transforms": [str(step) for step in policy.pipeline.transforms],
        "every": comparison.every,
        "against": comparison.against,
    }


def bag_limits(bag: Path, topics: Topics, parameters: Parameters) -> Limits:
    """Return the robot's limits; what the parameters leave out comes from the URDF that the bag has."""

    def urdf(missing: list[str]) -> str:
        with open_bag(bag) as opened:
            for message in opened.messages([topics.robot_description]):
                return str(message.decode().data)
        raise ParameterError(f"parameters {missing} are not set, and {bag} has no {topics.robot_description}")

    return joint_limits(parameters, urdf)
