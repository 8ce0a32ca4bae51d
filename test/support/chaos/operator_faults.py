"""What people do at the node's services, at its terminal and to its arms."""

from __future__ import annotations

import time
from random import Random

import numpy as np
from lifecycle_msgs.msg import Transition

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS
from support.chaos.checker import Breach
from support.chaos.episode import IMAGE_TIMEOUT
from support.chaos.fault import fault
from support.chaos.stage import ANSWER_NS, Stage, Steps
from support.fake_robot import MAX_VELOCITY, POSITION_MAX, POSITION_MIN

HAND_STEP = 0.02  # seconds
STORM = 400  # calls


@fault()
def stop_and_reset(stage: Stage, random: Random) -> Steps:
    """~/stop at any moment; the arm may be moved by hand before ~/reset."""
    seconds, hand = random.uniform(0.3, 2.0), Hand(stage, random)
    stage.note(f"~/stop for {seconds:.2f} s{hand}")
    due = yield from stage.stop("alone")
    yield seconds
    yield from hand.move()
    yield from stage.reset(due)


@fault()
def stops_in_a_row(stage: Stage, random: Random) -> Steps:
    """~/stop and ~/reset in quick succession, at random moments of the motion that begins."""
    pauses = [(random.uniform(0.0, 0.3), random.uniform(0.0, 1.0)) for _ in range(random.randint(3, 8))]
    stage.note(f"{len(pauses)} times ~/stop and ~/reset")
    for before_reset, before_stop in pauses:
        due = yield from stage.stop("in a row")
        yield before_reset
        yield from stage.reset(due)
        yield before_stop


@fault()
def emergency_stop(stage: Stage, random: Random) -> Steps:
    """The emergency stop is pressed: ~/reset is refused until it is released."""
    seconds, hand = random.uniform(0.3, 2.0), Hand(stage, random)
    stage.note(f"emergency stop for {seconds:.2f} s{hand}")
    stage.press_emergency_stop(True)
    due = stage.hold_due("emergency stop", time.time_ns() + ANSWER_NS)
    yield seconds
    yield from stage.call("reset")  # refused
    yield from hand.move()
    yield 0.3
    stage.press_emergency_stop(False)
    yield 0.3
    yield from stage.reset(due)


@fault()
def disable_and_enable(stage: Stage, random: Random) -> Steps:
    """~/enable false at any moment; the arm may be moved by hand before it is enabled again."""
    seconds, hand = random.uniform(0.3, 2.0), Hand(stage, random)
    stage.note(f"disabled for {seconds:.2f} s{hand}")
    answer = yield from stage.call("disable")
    due = stage.hold_due("disabled", answer["answered_ns"][0])
    yield seconds
    yield from hand.move()
    stage.release(due)
    yield from stage.call("enable")


@fault()
def arm_is_moved_in_an_automatic_hold(stage: Stage, random: Random) -> Steps:
    """The node holds by itself and the arm is moved by hand; then the motion resumes from where the arm is."""
    camera, hand = random.choice(CAMERAS), Hand(stage, random, always=True)
    stage.note(f"{camera} stops{hand}")
    stage.robot.silent.add(camera)
    due = stage.hold_due(f"{camera} stopped", stage.robot.last_ns[camera] + round(IMAGE_TIMEOUT * 1e9))
    yield 1.2
    yield from hand.move()
    stage.release(due)
    stage.robot.silent.discard(camera)


@fault()
def stop_while_nobody_reads_the_output(stage: Stage, random: Random) -> Steps:
    """The terminal stands still (Ctrl-S) until the node's pipe is full: ~/stop works all the same."""
    calls = random.randint(60, 120)
    stage.note(f"the node's output is not read during {calls} calls, then ~/stop")
    stage.log.pause()
    number = stage.people[1].call(stage.episode.namespace, ["reset", "enable"] * (calls // 2), 200.0)
    yield 1.5
    due = yield from stage.stop("nobody reads the output")
    yield 0.5
    stage.log.resume()
    yield lambda: number in stage.people[1].answers, "answers once the output is read again"
    del stage.people[1].answers[number]
    yield from stage.reset(due)


@fault()
def storm_of_calls(stage: Stage, random: Random) -> Steps:
    """Hundreds of calls of a service within seconds, and ~/stop among them."""
    service, rate = random.choice(["stop", "enable", "reset"]), random.uniform(100.0, 400.0)
    seconds = random.uniform(0.2, 1.5)
    stage.note(f"{STORM} calls of {service} at {rate:.0f} Hz, ~/stop after {seconds:.2f} s")
    number = stage.people[1].call(stage.episode.namespace, [service] * STORM, rate)
    yield seconds
    due = yield from stage.stop(f"storm of {service}")
    if service == "reset":
        stage.release(due)  # the storm undoes it
    yield lambda: number in stage.people[1].answers, f"answers to a storm of {service}"
    answer = stage.people[1].answers.pop(number)
    if 0 in answer["answered_ns"]:
        raise Breach(f"{answer['answered_ns'].count(0)} of {STORM} calls of {service} were not answered in 60 s")
    if service == "reset":
        due = yield from stage.stop("after the storm")
    yield 0.5
    yield from stage.reset(due)


@fault("speed")
def speed_is_reduced(stage: Stage, random: Random) -> Steps:
    """`speed_scaling` is lowered while the robot moves."""
    scaling, seconds = random.uniform(0.05, 0.9), random.uniform(1.0, 3.0)
    stage.note(f"speed_scaling {scaling:.2f} for {seconds:.2f} s")
    yield from stage.set_parameter("speed_scaling", scaling)
    # What is under way, and as much again for the machine: braking to the lower speed takes no longer.
    stage.checker.speed_limit = (time.time_ns() + 10**9, scaling * MAX_VELOCITY)
    yield seconds
    stage.checker.speed_limit = None
    yield from stage.set_parameter("speed_scaling", 1.0)


@fault()
def dry_run(stage: Stage, random: Random) -> Steps:
    """`dry_run` is switched on and off while the robot moves."""
    seconds = random.uniform(0.5, 2.0)
    stage.note(f"dry run for {seconds:.2f} s")
    yield from stage.set_parameter("dry_run", True)
    due = stage.hold_due("dry run", time.time_ns())
    yield seconds
    stage.release(due)
    yield from stage.set_parameter("dry_run", False)


@fault("instruction")
def instructions(stage: Stage, random: Random) -> Steps:
    """Instructions change faster than inferences."""
    count = random.randint(3, 200)
    stage.note(f"{count} instructions in a second")
    for number in range(count):
        stage.instruct(f"number {number} " + "x" * random.randrange(200))
        yield 1.0 / count


@fault()
def deactivate_and_activate(stage: Stage, random: Random) -> Steps:
    """The node is deactivated and activated, with or without cleanup and configure in between."""
    again, seconds, hand = random.random() < 0.3, random.uniform(0.0, 1.0), Hand(stage, random)
    stage.note(f"deactivated for {seconds:.2f} s{', cleaned up and configured' if again else ''}{hand}")
    yield from stage.change_state(Transition.TRANSITION_DEACTIVATE)
    due = stage.hold_due("inactive", time.time_ns())
    yield seconds
    yield from hand.move()
    if again:
        yield from stage.change_state(Transition.TRANSITION_CLEANUP)
        succeeded = False
        while not succeeded:  # on a busy machine an input may be missing
            succeeded = yield from stage.change_state(Transition.TRANSITION_CONFIGURE)
    stage.release(due)
    yield from stage.change_state(Transition.TRANSITION_ACTIVATE)


@fault()
def storm_of_transitions(stage: Stage, random: Random) -> Steps:
    """The node is deactivated and activated many times in a row."""
    count = random.randint(5, 30)
    stage.note(f"{count} times deactivated and activated")
    for _ in range(count):
        yield from stage.change_state(Transition.TRANSITION_DEACTIVATE)
        yield from stage.change_state(Transition.TRANSITION_ACTIVATE)


class Hand:
    """Somebody who may move an arm at rest, by a little or by much."""

    def __init__(self, stage: Stage, random: Random, always: bool = False) -> None:
        self._stage = stage
        self._moves = always or random.random() < 0.5
        arms = stage.robot.arms
        self._arm = arms[random.choice(sorted(arms))]
        distance = random.choice([0.03, 0.1, 0.4, 0.6, 1.0])
        directions = [random.uniform(-1, 1) for _ in self._arm.joints]
        self._offset = distance * np.array(directions) / np.abs(directions).max()
        self._seconds = random.uniform(0.1, 1.0)

    def __str__(self) -> str:
        """Return what it will do, for the journal."""
        if not self._moves:
            return ""
        distance = np.abs(self._offset).max()
        return f", {self._arm.name} moved by hand by up to {distance:.2f} rad in {self._seconds:.2f} s"

    def move(self) -> Steps:
        """Move the arm, then let it rest for longer than joint states are used."""
        if not self._moves:
            return
        robot = self._stage.robot
        start = robot.sensors.measured(self._arm, time.time_ns())
        # Within the limits, but for joints that are outside of them already.
        low, high = np.minimum(start, POSITION_MIN), np.maximum(start, POSITION_MAX)
        end = np.clip(start + self._offset, low, high)
        steps = max(1, round(self._seconds / HAND_STEP))
        for step in range(1, steps + 1):
            robot.sensors.put(time.time_ns(), self._arm, start + (end - start) * step / steps)
            yield HAND_STEP
        yield 0.5
