"""Faults of the robot's controllers and of its simulated clock."""

from __future__ import annotations

import time
from random import Random

from support.chaos.arm import Arm
from support.chaos.episode import MAX_TRACKING_TIME
from support.chaos.fault import fault
from support.chaos.stage import Stage, Steps
from support.fake_robot import MAX_VELOCITY

# Until the node notices that a joint does not follow: what `max_tracking_time` allows, from where it was commanded to
# be at any time in the last 0.3 s, then sensors and braking (docs/reference/node.md).
TRACKING = MAX_VELOCITY * (MAX_TRACKING_TIME + 0.3 + 0.1 + 0.2)  # rad
CATCH_UP = 1.0  # seconds, for the first command to arrive, and for the lag of the joints
# What is less off when the robot comes to rest counts as a steady-state error (docs/explanation/motion.md).
STEADY_STATE_ERROR = 0.05  # rad
HOLD = 5.0  # seconds, longer than a hold after a joint did not follow


@fault()
def arm_is_blocked(stage: Stage, random: Random) -> Steps:
    """A protective stop: an arm ignores its commands for a while and says where it is."""
    arm, seconds = stage.robot.arms[random.choice(sorted(stage.robot.arms))], random.uniform(0.1, 5.0)
    stage.note(f"{arm.name} ignores its commands for {seconds:.2f} s")
    stage.robot.stay(arm)
    arm.blocked = True
    yield from stage.not_moving_on(f"{arm.name} ignores its commands", seconds)
    arm.blocked = False
    yield from _caught_up(arm)


@fault()
def controller_restarts(stage: Stage, random: Random) -> Steps:
    """A controller disappears and returns; the arm stays where it was."""
    name, seconds = random.choice(sorted(stage.robot.arms)), random.uniform(0.2, 3.0)
    stage.note(f"controller {name} gone for {seconds:.2f} s")
    stage.robot.stop_controller(name)
    yield seconds
    stage.robot.start_controller(name)
    yield from _caught_up(stage.robot.arms[name])


@fault(simulated=True)
def clock_jumps_back(stage: Stage, random: Random) -> Steps:
    """The simulation is reset: its time starts again, or is some seconds younger."""
    now_ns = stage.clock.now_ns()
    target_ns = random.choice([0, 1_000_000, 20_000_000, 10**9, now_ns - 5 * 10**8, now_ns - 10 * 10**9])
    stage.note(f"the clock jumps back to {target_ns * 1e-9:.3f} s")
    for arm in stage.robot.arms.values():
        stage.robot.stay(arm)
    stage.clock.jump_to(max(0, target_ns))
    stage.robot.publish_clock()
    yield 1.0


@fault(simulated=True)
def clock_stops(stage: Stage, random: Random) -> Steps:
    """The simulation is paused: its time stands still, and so does the robot."""
    seconds = random.uniform(0.2, 4.0)
    stage.note(f"the clock stands still for {seconds:.2f} s")
    stage.clock.stop()
    yield seconds
    stage.clock.go_on()
    yield 0.5


def _caught_up(arm: Arm) -> Steps:
    """Let an arm that did not follow catch up: in the motion that goes on, or in the one after the node's hold."""
    arm.allow(TRACKING, time.time_ns() + round(CATCH_UP * 1e9))
    yield CATCH_UP
    arm.allow(STEADY_STATE_ERROR, time.time_ns() + round(HOLD * 1e9))
