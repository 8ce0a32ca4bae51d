"""The judge of scripts/soak --chaos finds each kind of breach in a faulty stream of commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from support.chaos.arm import Arm, Sensors
from support.chaos.checker import Breach, Checker, Limits
from support.chaos.motion import Motion

START = 1_000_000_000_000
PERIOD = 20_000_000
LIMITS = Limits(-1.0, 1.0, 1.0, 10.0, 0.02)
HERE = np.array([0.1, -0.2])


class Robot:
    """An arm of two joints at rest at HERE, its checker, and a way to command it."""

    def __init__(self, lateness: int = 0) -> None:
        self.arm = Arm("arm", [0, 1], HERE)
        self.sensors = Sensors([self.arm], lag=0.0, droop=0.0)
        self.checker = Checker(LIMITS, self.sensors, lambda start_ns, end_ns: lateness)
        self.sensors.sample(START - 10**9, START - 10**9)
        self.sensors.published_ns = START + 10**12

    def command(self, motion: Motion, sent_ns: int) -> None:
        """Receive a trajectory; the node's clock is the system's."""
        self.sensors.sample(sent_ns, sent_ns)
        self.checker.trajectory(self.arm, motion, sent_ns, sent_ns)
        self.arm.follow(motion)

    def command_all(self, motions: Iterator[Motion]) -> None:
        """Receive trajectories, each a millisecond after its stamp."""
        for motion in motions:
            self.command(motion, motion.start_ns + 1_000_000)

    def position(self, position: np.ndarray, sent_ns: int) -> None:
        """Receive a `position` command."""
        self.sensors.sample(sent_ns, sent_ns)
        self.checker.position(self.arm, position, sent_ns)
        self.arm.stay(position)


def motion(velocities: list[float], start_ns: int = START, here: np.ndarray = HERE) -> Motion:
    """Return a motion of both joints, the second one backwards, with the given velocities a period apart."""
    speeds = np.array(velocities)
    path = np.concatenate([[0.0], np.cumsum((speeds[1:] + speeds[:-1]) * 0.01)])
    directions = np.array([1.0, -1.0])
    times = PERIOD * np.arange(len(speeds), dtype=np.int64)
    return Motion(start_ns, times, here + path[:, None] * directions, speeds[:, None] * directions)


GOOD = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]


def plans(change: Callable[[int, Motion], Motion] = lambda number, plan: plan) -> Iterator[Motion]:
    """Yield what a good node sends while the arm moves as GOOD says: each period the rest of it, changed."""
    whole = motion(GOOD)
    for number in range(len(GOOD) - 1):
        rest = slice(number, None)
        times = whole.times_ns[rest] - whole.times_ns[number]
        plan = Motion(START + number * PERIOD, times, whole.positions[rest], whole.velocities[rest])
        yield change(number, plan)


def at(wanted: int, change: Callable[[Motion], Motion]) -> Callable[[int, Motion], Motion]:
    """Change one of the plans."""
    return lambda number, plan: change(plan) if number == wanted else plan


def shifted(plan: Motion, positions: float) -> Motion:
    """Shift what a plan commands."""
    return replace(plan, positions=plan.positions + positions)


def with_value(plan: Motion, name: str, index: tuple[int, int], value: float) -> Motion:
    """Change one value of a plan."""
    values = getattr(plan, name).copy()
    values[index] = value
    return replace(plan, **{name: values})


def test_a_good_stream_of_plans():
    robot = Robot()
    robot.command_all(plans())
    seen = robot.checker.seen
    assert seen.commands == len(GOOD) - 1 and seen.speed == pytest.approx(1.0) and seen.step < 1e-9
    robot.checker.finish(robot.arm, START + 10**9, START + 10**9)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (at(0, lambda plan: shifted(plan, 0.03)), "off where the arm is: 0.0300 rad"),
        (at(4, lambda plan: shifted(plan, 0.003)), "a step in a motion: 0.0030 rad"),
        (
            at(7, lambda plan: motion([0.4, 0.2, 0.0], plan.start_ns, plan.positions[0])),
            r"a step of the speed: 0.6100 rad/s",
        ),
        (at(2, lambda plan: with_value(plan, "velocities", (3, 0), 1.2)), r"speed above 1: 1.2000 rad/s of joint 0"),
        (at(2, lambda plan: with_value(plan, "positions", (5, 1), -0.36)), "speed above 1"),
        (at(3, lambda plan: with_value(plan, "velocities", (-2, 1), -0.4)), r"acceleration above 10: 50"),
        (at(3, lambda plan: with_value(plan, "velocities", (-1, 0), 0.1)), "no rest at its end"),
        (at(3, lambda plan: with_value(plan, "positions", (2, 0), np.nan)), "not finite"),
        (at(3, lambda plan: replace(plan, times_ns=plan.times_ns[::-1])), "do not increase"),
        (at(3, lambda plan: replace(plan, start_ns=-PERIOD)), "a negative stamp"),
        (at(3, lambda plan: replace(plan, positions=plan.positions[:, :1])), "positions and"),
    ],
)
def test_one_plan_is_faulty(change, told):
    with pytest.raises(Breach, match=told):
        Robot().command_all(plans(change))


def test_a_start_in_the_future():
    with pytest.raises(Breach, match=r"a start 1.000 s ahead"):
        Robot().command(motion(GOOD, START + 10**9), START)


def test_positions_outside_the_limits():
    robot = Robot()
    robot.arm.stay(np.array([0.95, 0.0]))
    robot.sensors.sample(START, START)
    with pytest.raises(Breach, match="outside its limits"):
        robot.command(motion(GOOD, START + PERIOD, np.array([0.95, 0.0])), START + PERIOD)


def test_a_robot_outside_its_limits_is_led_back_only():
    robot = Robot()
    robot.arm.stay(np.array([1.2, -1.2]))
    robot.sensors.sample(START, START)
    back = motion([-velocity for velocity in GOOD], START + PERIOD, np.array([1.2, -1.2]))
    robot.command(back, START + PERIOD)
    robot = Robot()
    robot.arm.stay(np.array([1.2, -1.2]))
    robot.sensors.sample(START, START)
    with pytest.raises(Breach, match="outside its limits"):
        robot.command(motion(GOOD, START + PERIOD, np.array([1.2, -1.2])), START + PERIOD)


def test_a_limit_is_exceeded_between_two_points():
    """Velocities and positions of both points are within the limits; the cubic between them is not."""
    points = motion([0.0, 0.5, 0.5, 0.5, 0.0])
    positions = points.positions + np.array([0.0, 0.0, 0.012, 0.012, 0.012])[:, None]
    with pytest.raises(Breach, match=r"speed above 1: 1.4"):
        Robot().command(replace(points, positions=positions), START)


def test_a_motion_that_nobody_can_stop():
    with pytest.raises(Breach, match="that nobody can stop but the node"):
        Robot().command(motion([0.0, 0.2, *[0.4] * 30, 0.2, 0.0]), START)


@pytest.mark.parametrize("distance", [0.05, 0.5])
def test_the_arm_was_moved_by_hand(distance):
    """A motion that starts where the arm was commanded to be, not where it is, is a jump: whoever moved it."""
    robot = Robot()
    robot.command_all(plans())
    later = START + 3 * 10**9
    robot.sensors.put(later - 10**9, robot.arm, robot.arm.state(later)[0] + distance)
    end = motion(GOOD).positions[-1]
    with pytest.raises(Breach, match="off where the arm is"):
        robot.command(motion(GOOD, later, end), later)
    robot.command(motion(GOOD, later, end + distance), later)


def test_an_arm_that_lags():
    """A motion may start where the arm was sent, though it is measured behind: it is still on its way."""
    robot = Robot()
    robot.command_all(plans())
    later = START + 500_000_000
    robot.sensors.sample(later - 300_000_000, later)
    robot.sensors._history.append((later - 1, motion(GOOD).positions[-1] - 0.05))
    robot.command(motion(GOOD, later, motion(GOOD).positions[-1]), later)


def test_a_motion_while_a_hold_is_due():
    robot = Robot()
    due = robot.checker.hold_due("the camera stopped", START - 10**9)
    with pytest.raises(Breach, match=r"a motion is commanded 891 ms after it must rest .*the camera stopped"):
        robot.command(motion(GOOD, START + 50_000_000), START + 51_000_000)
    robot.checker.release(due, START)
    robot.command_all(plans())


def test_a_hold_comes_too_late():
    """The last plan ends at rest by itself, but later than a hold would have."""
    robot = Robot()
    robot.checker.hold_due("~/stop", START - 50_000_000)
    robot.command(motion(GOOD), START)
    with pytest.raises(Breach, match="moves 150 ms after it must rest"):
        robot.checker.finish(robot.arm, START + 10**9, START + 10**9)


def test_the_machine_was_late():
    """A hold that the machine delayed is not the node's fault."""
    robot = Robot(lateness=300_000_000)
    robot.checker.hold_due("~/stop", START - 50_000_000)
    robot.command_all(plans())
    robot.checker.finish(robot.arm, START + 10**9, START + 10**9)


def test_the_node_was_paused():
    """While its process is stopped the node decides nothing: a hold is due from when it goes on."""
    robot = Robot()
    robot.checker.hold_due("the heartbeat died", START - 10**9)
    robot.checker.paused_until_ns = START + 10**9
    robot.command_all(plans())
    robot.checker.finish(robot.arm, START + 10**9, START + 10**9)
    with pytest.raises(Breach, match="the heartbeat died"):
        later = START + 2 * 10**9
        robot.command(motion(GOOD, later, motion(GOOD).positions[-1]), later)


def test_a_reduced_speed():
    robot = Robot()
    robot.checker.speed_limit = (START - 10**9, 0.5)
    with pytest.raises(Breach, match=r"speed above 0.5: 1.0000 rad/s"):
        robot.command(motion(GOOD), START)


def test_good_position_commands():
    robot = Robot()
    for number, position in enumerate(motion(GOOD).positions):
        robot.position(position, START + number * PERIOD)
    assert robot.checker.seen.position_step == pytest.approx(0.02)


def test_a_position_command_after_a_stall():
    """The plan went on while the node was paused, the robot did not."""
    robot = Robot()
    path = motion(GOOD).positions
    robot.position(path[1], START)
    with pytest.raises(Breach, match=r"a step of 0.1260 rad of joint 0, 6.30 rad/s; 0.0200 rad are allowed"):
        robot.position(path[9], START + 200_000_000)


def test_position_commands_are_made_up_for():
    """Each step is allowed, but they come too fast one after the other."""
    robot = Robot()
    path = motion([0.0, *[1.0] * 40, 0.0]).positions
    robot.position(path[0], START)
    with pytest.raises(Breach, match="commands move a joint by"):
        for number, position in enumerate(path[1:]):
            robot.position(position, START + 10**9 + number * PERIOD // 4)


def test_a_position_command_outside_the_limits():
    with pytest.raises(Breach, match="outside its limits"):
        robot = Robot()
        robot.arm.stay(np.array([0.99, 0.0]))
        robot.position(np.array([1.005, 0.0]), START)


def test_a_position_command_while_a_hold_is_due():
    robot = Robot()
    robot.checker.hold_due("disabled", START - 10**9)
    robot.position(HERE, START)
    with pytest.raises(Breach, match="disabled"):
        robot.position(HERE + 0.001, START + PERIOD)


def test_extremes_between_points():
    """The largest values are those of a dense sampling."""
    random = np.random.default_rng(0)
    for _ in range(10):
        times = np.cumsum(random.integers(10**6, 10**8, 8)) - 10**6
        drawn = Motion(START, times - times[0], random.normal(size=(8, 3)), random.normal(size=(8, 3)))
        extremes = drawn.extremes()
        moments = np.unique(np.concatenate([np.linspace(0, drawn.times_ns[-1], 2001).astype(int), drawn.times_ns]))
        sampled = [drawn.at(START + int(moment)) for moment in moments[:-1]]
        positions, velocities = np.array([each[0] for each in sampled]), np.array([each[1] for each in sampled])
        np.testing.assert_allclose(extremes.highest, np.maximum(positions.max(0), drawn.positions[-1]), atol=1e-2)
        np.testing.assert_allclose(extremes.lowest, np.minimum(positions.min(0), drawn.positions[-1]), atol=1e-2)
        speeds = np.maximum(np.abs(velocities).max(0), np.abs(drawn.velocities[-1]))
        np.testing.assert_allclose(extremes.speed, speeds, rtol=1e-2)
        steps = np.diff(velocities, axis=0) / np.diff(moments[:-1])[:, None] * 1e9
        assert (extremes.acceleration >= np.abs(steps).max(0) * 0.99).all()
