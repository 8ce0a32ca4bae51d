"""Play random faults around the policy node and judge each command that leaves it. Run by scripts/soak --chaos.

A seed gives the same nodes, robots and faults in the same order; each is printed when it begins. On the first breach
the run ends with status 1 and says what was breached. At the end it prints a report.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import rclpy
from lifecycle_msgs.msg import Transition

from pi0_ttnn_core.checkpoints.random_checkpoint import REST_POSE, make_checkpoint
from pi0_ttnn_ros.system.scheduling import Priority, use_realtime_priority
from support.chaos import operator_faults, process_faults, robot_faults, sensor_faults
from support.chaos.checker import Breach
from support.chaos.episode import Episode
from support.chaos.fault import Fault, faults_of
from support.chaos.lateness import Lateness
from support.chaos.operator import Operator
from support.chaos.report import report
from support.chaos.sensor_faults import huge_png
from support.chaos.stage import PATIENCE, Journal, Stage, Steps

FAULTS = faults_of(operator_faults, process_faults, robot_faults, sensor_faults)
ENDS = [fault for fault in FAULTS if fault.name.startswith("end_by_")]
PAUSE = 1.0  # seconds, longest pause before a fault
TOGETHER = 0.4  # share of the faults that are played with another one, where that is possible


def main() -> None:
    """Play episodes for `--minutes`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="default: another one each time")
    parser.add_argument("--inference-rate", type=float, default=5.0, help="upper bound, Hz")
    parser.add_argument("--only", default="", help="names of faults, separated by commas; default: all")
    arguments = parser.parse_args()
    names = [fault.name for fault in FAULTS if fault not in ENDS]
    wanted = arguments.only.split(",") if arguments.only else names
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        parser.error(f"no faults {unknown}; there are {names}")
    faults = [fault for fault in FAULTS if fault.name in wanted]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("chaos: ended by a signal"))
    print(f"chaos: seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "tiny"
        make_checkpoint("tiny", checkpoint, seed=0)
        huge_png()  # takes a second: before anybody waits
        use_realtime_priority(Priority.NODE)  # the judge may not be later than the node
        sys.exit(play(arguments, faults, Path(folder), checkpoint))


def play(arguments: argparse.Namespace, faults: list[Fault], folder: Path, checkpoint: Path) -> int:
    """Play faults and print the report; return the exit status."""
    rclpy.init()
    journal, lateness = Journal(), Lateness()
    people = Operator("operator"), Operator("caller")
    status = 0
    try:
        run = Run(arguments, faults, journal, lateness, people, folder, checkpoint)
        run.play(time.monotonic() + 60.0 * arguments.minutes)
    except Breach as breach:
        status = 1
        journal.note(f"BREACH: {breach}")
        print(f"chaos: scripts/soak --chaos --seed {arguments.seed} plays the same faults again")
    finally:
        lateness.close()
        for person in people:
            person.close()
        print(report(journal, arguments.seed, f"{platform.machine()}, load {os.getloadavg()[0]:.1f}"), flush=True)
    return status


@dataclass
class Task:
    """A fault that is being played.

    Attributes:
        steps: what is left of it.
        condition: waits until this holds.
        label: what it waits for.
        deadline: monotonic time at which the wait has taken too long.
    """

    steps: Steps
    condition: Callable[[], object] = lambda: True
    label: str = ""
    deadline: float = 0.0

    def advance(self) -> bool:
        """Go on if what it waits for is there; return whether the fault is over."""
        while self.condition():
            try:
                wait = next(self.steps)
            except StopIteration:
                return True
            if isinstance(wait, tuple):
                self.condition, self.label = wait
                self.deadline = time.monotonic() + PATIENCE
            else:
                end = time.monotonic() + wait
                self.condition, self.label, self.deadline = partial(_over, end), "end of a pause", end + PATIENCE
        if time.monotonic() > self.deadline:
            raise Breach(f"no {self.label} after {PATIENCE:g} s")
        return False


@dataclass
class Run:
    """A run: episodes, one after the other, and the faults of each.

    Attributes:
        arguments: of the command line.
        faults: what may be played.
        journal: what happened.
        lateness: of the machine.
        people: see `Stage`.
        folder: for what the nodes need.
        checkpoint: what they infer with.
    """

    arguments: argparse.Namespace
    faults: list[Fault]
    journal: Journal
    lateness: Lateness
    people: tuple[Operator, Operator]
    folder: Path
    checkpoint: Path

    def play(self, end: float) -> None:
        """Play episodes until a monotonic time."""
        positions = np.array([*REST_POSE, *REST_POSE])
        number = 0
        while time.monotonic() < end:
            episode = Episode.draw(self.arguments.seed, number)
            self.journal.note(f"episode {number}: {episode}")
            stage = Stage(
                episode,
                self.checkpoint,
                self.arguments.inference_rate,
                self.folder / str(number),
                positions,
                self.journal,
                self.people,
                self.lateness,
            )
            try:
                self._play_episode(stage, end)
                positions = stage.robot.measured()
            except Breach as breach:
                raise Breach(f"{breach}\n{stage.told()}") from None
            finally:
                stage.close()
            number += 1

    def _play_episode(self, stage: Stage, end: float) -> None:
        self._run(stage, _bring_up(stage))
        for number in range(stage.episode.faults):
            if time.monotonic() > end:
                break
            self._run(stage, *self._draw(stage, f"{self.arguments.seed}/{stage.episode.number}/{number}"))
            self._run(stage, stage.recover())
        random = Random(f"{self.arguments.seed}/{stage.episode.number}/end")
        self._run(stage, self._begin(stage, random.choice(ENDS), random))

    def _draw(self, stage: Stage, name: str) -> list[Steps]:
        """Draw a fault, or two at once."""
        random = Random(name)
        possible = [fault for fault in self.faults if stage.episode.simulated or not fault.simulated]
        first = random.choice(possible)
        beside = [fault for fault in possible if fault.beside(first)]
        drawn = [first, random.choice(beside)] if beside and random.random() < TOGETHER else [first]
        # Each has random numbers of its own: the order in which they are played depends on the machine.
        numbers = [Random(f"{name}/{fault.name}") for fault in drawn]
        return [self._begin(stage, fault, random) for fault, random in zip(drawn, numbers, strict=True)]

    def _begin(self, stage: Stage, fault: Fault, random: Random) -> Steps:
        yield random.uniform(0.0, PAUSE)
        self.journal.faults[fault.name] = self.journal.faults.get(fault.name, 0) + 1
        yield from fault.play(stage, random)

    def _run(self, stage: Stage, *steps: Steps) -> None:
        """Play some steps at once until all are over."""
        left = [Task(each) for each in steps]
        while left:
            stage.spin()
            left = [task for task in left if not task.advance()]


def _over(end: float) -> bool:
    return time.monotonic() >= end


def _bring_up(stage: Stage) -> Steps:
    """Configure and activate the node, and wait until it moves the robot."""
    yield lambda: stage.statuses, "first status of the node"
    yield from stage.introduce()
    succeeded = False
    while not succeeded:  # on a busy machine an input may be missing
        succeeded = yield from stage.change_state(Transition.TRANSITION_CONFIGURE)
    yield from stage.change_state(Transition.TRANSITION_ACTIVATE)
    yield from stage.recover()


if __name__ == "__main__":
    main()
