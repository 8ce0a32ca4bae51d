"""The independent judge: what every command must keep, whatever happens around the node.

It imports nothing of the node's own planning. Where a tolerance is more than rounding, its reason stands beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from support.chaos.arm import ENCODER_NOISE, Arm, Sensors
from support.chaos.motion import Motion

ROUNDING = 1e-6  # rad, rad/s: what remains of float64 after some thousand steps
# A plan carries on where the robot is on the plan before: less than an encoder sees.
CONTINUITY = 0.002  # rad
# A motion from rest starts where the robot is measured: the requirement.
START = 0.02  # rad
# A plan follows the chunks for 0.2 s beyond the 40 ms that never change, then it brakes (docs/explanation/motion.md).
PLAN_NS = 240_000_000
FROZEN_NS = 40_000_000  # a plan that needs longer to leave was delayed by the machine or by a pause
SMOOTHING = 4  # points over which the motion is averaged, so that it ends that much later
# After ~/stop, and whenever a hold is due, the arm is at rest within its braking time and this: the requirement.
REST_NS = 60_000_000
# From the sensors over the middleware to a plan and to the moment at which it leaves: three periods of the sensors.
TRANSPORT_NS = 60_000_000
WINDOW_NS = 100_000_000  # over which the joint speed of `position` commands is measured


class Breach(Exception):
    """A command that must not have left, or an answer that did not come; the text has the numbers."""


@dataclass(frozen=True)
class Limits:
    """The limits of all joints.

    Attributes:
        position_min: rad.
        position_max: rad.
        max_velocity: rad/s.
        max_acceleration: rad/s^2.
        period: seconds between two commands.
    """

    position_min: float
    position_max: float
    max_velocity: float
    max_acceleration: float
    period: float

    @property
    def braking_ns(self) -> int:
        """The time to brake from the largest velocity."""
        return round(self.max_velocity / self.max_acceleration * 1e9)


@dataclass
class HoldDue:
    """A hold that a fault demands.

    Attributes:
        reason: the fault.
        decided_ns: system's time by which the node must have decided to hold.
        ended_ns: until when the hold is due; None while it lasts.
    """

    reason: str
    decided_ns: int
    ended_ns: int | None = None


@dataclass
class Seen:
    """What was judged, for the report.

    Attributes:
        commands: number of commands.
        moving: number of those that moved the robot.
        step: largest step of the robot when a command replaced the one before, rad.
        start: largest distance of the first point of a motion from where the arm is, rad.
        speed: largest commanded speed, rad/s.
        acceleration: largest commanded acceleration, rad/s^2.
        position_step: largest step between two `position` commands, rad.
        late: number of commands that needed longer than FROZEN_NS to leave.
        in_motion_ns: time in which motions were commanded.
    """

    commands: int = 0
    moving: int = 0
    step: float = 0.0
    start: float = 0.0
    speed: float = 0.0
    acceleration: float = 0.0
    position_step: float = 0.0
    late: int = 0
    in_motion_ns: int = 0


@dataclass
class Checker:
    """Judges each command against the robot, in the order in which they left.

    Attributes:
        limits: what must be kept.
        sensors: the measured robot.
        lateness_ns: how late the machine was between two of the system's times.
        seen: what was judged so far.
        speed_limit: (system's time from which it counts, rad/s), for a reduced `speed_scaling`.
        paused_until_ns: until this system's time the node could decide nothing, because a fault had stopped it.
        holds: the holds that are due or were until recently.
    """

    limits: Limits
    sensors: Sensors
    lateness_ns: Callable[[int, int], int]
    seen: Seen = field(default_factory=Seen)
    speed_limit: tuple[int, float] | None = None
    paused_until_ns: int = 0
    holds: list[HoldDue] = field(default_factory=list)
    _steps: dict[str, deque[tuple[int, float]]] = field(default_factory=dict)
    _last_sent: dict[str, int] = field(default_factory=dict)
    _moving_since_ns: int = 0

    def trajectory(self, arm: Arm, motion: Motion, sent_ns: int, time_ns: int) -> None:
        """Judge a trajectory that left at `sent_ns` of the system's time, `time_ns` of the node's clock."""
        self._check_form(arm, motion, time_ns)
        self._check_limits(arm, motion, sent_ns)
        moving = motion.moving_until_ns > time_ns
        if not arm.blocked:
            self._check_continuity(arm, motion, sent_ns, time_ns)
        self.finish(arm, sent_ns, time_ns)
        if moving:
            self._check_may_move(arm, sent_ns)
        self._count(arm, moving, sent_ns)

    def position(self, arm: Arm, positions: np.ndarray, sent_ns: int, lost: int = 0) -> None:
        """Judge a `position` command [joints of the arm]; `lost` were lost on the way before it."""
        limits, here, slack = self.limits, arm.state(0)[0], arm.slack(sent_ns)
        if positions.shape != here.shape or not np.isfinite(positions).all():
            raise Breach(f"{arm.name}: command {positions.tolist()} is not {len(here)} finite positions")
        # A motion starts where the robot is measured, which may be outside where the robot is not.
        low, high = np.minimum(limits.position_min, here), np.maximum(limits.position_max, here)
        self._worst(arm, "position outside its limits", low - positions, ENCODER_NOISE, "rad", positions)
        self._worst(arm, "position outside its limits", positions - high, ENCODER_NOISE, "rad", positions)
        step = np.abs(positions - here)
        moving = bool(step.max() > ROUNDING)
        if not arm.blocked:
            allowed = limits.max_velocity * limits.period * (1 + lost) + slack + ROUNDING
            joint = int(np.argmax(step))
            if step[joint] > allowed:
                raise Breach(
                    f"{arm.name}: a step of {step[joint]:.4f} rad of joint {arm.joints[joint]}, "
                    f"{step[joint] / limits.period:.2f} rad/s; {allowed:.4f} rad are allowed"
                )
            if not slack:
                self.seen.position_step = max(self.seen.position_step, float(step.max()))
                self._check_speed(arm, float(step.max()), sent_ns)
        if moving:
            self._check_may_move(arm, sent_ns)
        self._count(arm, moving, sent_ns)
        if np.isfinite(slack) and step.max() > limits.max_velocity * limits.period:
            arm.allow(0.0, 0)  # one command is enough to catch up

    def finish(self, arm: Arm, until_ns: int, time_ns: int) -> None:
        """Judge what the arm did under its last command, up to a system's time and the node's clock then."""
        since_ns = self._last_sent.get(arm.name)
        if since_ns is None:
            return
        moved_until_ns = min(until_ns, until_ns - time_ns + arm.moving_until_ns(time_ns - (until_ns - since_ns)))
        for due in self.holds:
            rest_ns = self._rest_ns(due)
            end_ns = moved_until_ns if due.ended_ns is None else min(moved_until_ns, due.ended_ns)
            if end_ns > max(rest_ns, since_ns):
                late = (end_ns - rest_ns) * 1e-6
                raise Breach(f"{arm.name}: moves {late:.0f} ms after it must rest ({self._told(due)})")

    def hold_due(self, reason: str, decided_ns: int) -> HoldDue:
        """Note that the node must have decided to hold by a system's time; end it with `release`."""
        self.holds.append(HoldDue(reason, decided_ns))
        return self.holds[-1]

    def release(self, due: HoldDue, now_ns: int) -> None:
        """End a hold: from now on a motion may start."""
        due.ended_ns = now_ns

    def forget(self, before_ns: int) -> None:
        """Forget the holds that ended before a system's time."""
        self.holds = [due for due in self.holds if due.ended_ns is None or due.ended_ns > before_ns]

    def restart(self, arm: Arm) -> None:
        """Forget what the arm was commanded: the node is another one."""
        self._last_sent.pop(arm.name, None)
        self._steps.pop(arm.name, None)

    def _moved(self, arm: Arm, sent_ns: int) -> np.ndarray:
        """Return how far the joints [joints of the arm] moved since the node could see them last, rad."""
        seen_ns = min(sent_ns, self.sensors.published_ns) - TRANSPORT_NS
        seen_ns -= self.lateness_ns(seen_ns, sent_ns)
        return self.sensors.moved(arm, sent_ns, sent_ns - seen_ns)

    def _check_form(self, arm: Arm, motion: Motion, time_ns: int) -> None:
        times, positions, velocities = motion.times_ns, motion.positions, motion.velocities
        wrong = ""
        if len(times) < 2 or positions.shape != (len(times), len(arm.joints)) or velocities.shape != positions.shape:
            wrong = f"{positions.shape} positions and {velocities.shape} velocities at {len(times)} points"
        elif not (np.isfinite(positions).all() and np.isfinite(velocities).all()):
            wrong = "values that are not finite"
        elif motion.start_ns < 0:
            wrong = f"a negative stamp, {motion.start_ns} ns"
        elif times[0] < 0 or (np.diff(times) <= 0).any():
            wrong = f"times {times.tolist()} that do not increase from 0 or later"
        elif velocities[-1].any():
            wrong = "no rest at its end"
        elif motion.start_ns > time_ns + round(self.limits.period * 1e9):
            wrong = f"a start {(motion.start_ns - time_ns) * 1e-9:.3f} s ahead"
        else:
            # What is followed, then braking, and both a little later because the motion is averaged.
            smoothing = (SMOOTHING + 1) * self.limits.period * 1e9
            longest = PLAN_NS + self.limits.braking_ns + round(smoothing)
            if motion.moving_until_ns - motion.start_ns > longest:
                length = (motion.moving_until_ns - motion.start_ns) * 1e-9
                wrong = f"a motion of {length:.3f} s that nobody can stop but the node; {longest * 1e-9:.3f} s at most"
        if wrong:
            raise Breach(f"{arm.name}: a trajectory with {wrong}")

    def _check_limits(self, arm: Arm, motion: Motion, sent_ns: int) -> None:
        limits, extremes, first = self.limits, motion.extremes(), motion.positions[0]
        # A robot that is outside its limits is led back, never further out.
        low, high = np.minimum(limits.position_min, first), np.maximum(limits.position_max, first)
        self._worst(arm, "position outside its limits", low - extremes.lowest, ROUNDING, "rad", extremes.lowest)
        self._worst(arm, "position outside its limits", extremes.highest - high, ROUNDING, "rad", extremes.highest)
        speed = limits.max_velocity
        if self.speed_limit is not None and sent_ns > self.speed_limit[0]:
            speed = self.speed_limit[1]
        self._worst(arm, f"speed above {speed:g}", extremes.speed - speed, 1e-3 * speed, "rad/s", extremes.speed)
        acceleration, values = limits.max_acceleration, extremes.acceleration
        self._worst(
            arm, f"acceleration above {acceleration:g}", values - acceleration, 1e-3 * acceleration, "rad/s^2", values
        )
        self.seen.speed = max(self.seen.speed, float(extremes.speed.max()))
        self.seen.acceleration = max(self.seen.acceleration, float(values.max()))

    def _check_continuity(self, arm: Arm, motion: Motion, sent_ns: int, time_ns: int) -> None:
        limits, slack = self.limits, arm.slack(sent_ns)
        here, speed = arm.state(time_ns)
        there, next_speed = motion.at(time_ns)
        late = time_ns - motion.start_ns > FROZEN_NS
        self.seen.late += late
        if arm.moving_until_ns(time_ns) <= time_ns:
            # Of a plan that was held up on its way the robot enters what is left.
            first, step = (there, limits.max_velocity * limits.period) if late else (motion.positions[0], 0.0)
            # The arm as it obeys at once, or as it is measured: one that lags is still coming to where it was sent.
            measured = np.abs(first - self.sensors.measured(arm, sent_ns)) - self._moved(arm, sent_ns)
            gap = np.minimum(np.abs(first - here), np.maximum(measured, 0.0))
            self._worst(arm, "a motion from rest off where the arm is", gap - slack, START + step, "rad", gap)
            if not slack:
                self.seen.start = max(self.seen.start, float(gap.max()))
            return
        # A plan that brakes is behind the one that the robot follows by what braking does until it left; one that was
        # held up on its way may be of a period later.
        delay = max(0, time_ns - motion.start_ns) * 1e-9
        braking = limits.max_acceleration * min(delay, FROZEN_NS * 1e-9)
        allowed = CONTINUITY + slack + braking * delay / 2 + limits.max_velocity * limits.period * late
        step = np.abs(there - here)
        self._worst(arm, "a step in a motion", step, allowed, "rad", step)
        change = np.abs(next_speed - speed)
        # Both plans may change their acceleration within a period.
        allowed = limits.max_acceleration * limits.period + braking + limits.max_velocity * (late or slack > 0)
        self._worst(arm, "a step of the speed", change, allowed, "rad/s", change)
        if not slack:
            self.seen.step = max(self.seen.step, float(step.max()))

    def _check_speed(self, arm: Arm, step: float, sent_ns: int) -> None:
        """Check the joint speed over WINDOW_NS: commands that are made up for come too fast one after the other."""
        steps = self._steps.setdefault(arm.name, deque())
        steps.append((sent_ns, step))
        while steps[0][0] <= sent_ns - WINDOW_NS:
            steps.popleft()
        # A window holds one more command than periods, and the machine may delay one of them.
        late_ns = self.lateness_ns(sent_ns - WINDOW_NS, sent_ns)
        seconds = (WINDOW_NS + late_ns) * 1e-9 + 2 * self.limits.period
        distance, allowed = sum(step for _, step in steps), self.limits.max_velocity * seconds
        if distance > allowed:
            raise Breach(
                f"{arm.name}: {len(steps)} commands move a joint by {distance:.3f} rad in "
                f"{WINDOW_NS * 1e-6:.0f} ms; {allowed:.3f} rad are allowed"
            )

    def _check_may_move(self, arm: Arm, sent_ns: int) -> None:
        for due in self.holds:
            if self._rest_ns(due) < sent_ns and (due.ended_ns is None or sent_ns < due.ended_ns):
                late = (sent_ns - self._rest_ns(due)) * 1e-6
                raise Breach(f"{arm.name}: a motion is commanded {late:.0f} ms after it must rest ({self._told(due)})")

    def _rest_ns(self, due: HoldDue) -> int:
        """Return the system's time from which the arms must be at rest."""
        decided_ns = max(due.decided_ns, self.paused_until_ns)
        rest_ns = decided_ns + self.limits.braking_ns + REST_NS
        return rest_ns + self.lateness_ns(decided_ns - FROZEN_NS, rest_ns)

    def _told(self, due: HoldDue) -> str:
        decided_ns = max(due.decided_ns, self.paused_until_ns)
        late = (self._rest_ns(due) - decided_ns - self.limits.braking_ns - REST_NS) * 1e-6
        return f"hold due: {due.reason}; the machine was {late:.0f} ms late"

    def _count(self, arm: Arm, moving: bool, sent_ns: int) -> None:
        self.seen.commands += 1
        self.seen.moving += moving
        if moving:
            since_ns = max(self._moving_since_ns, sent_ns - 2 * round(self.limits.period * 1e9))
            self.seen.in_motion_ns += max(0, sent_ns - since_ns)
            self._moving_since_ns = max(self._moving_since_ns, sent_ns)
        self._last_sent[arm.name] = sent_ns

    def _worst(
        self, arm: Arm, label: str, excess: np.ndarray, allowed: float | np.ndarray, unit: str, values: np.ndarray
    ) -> None:
        joint = int(np.argmax(excess - allowed))
        if (excess - allowed)[joint] > 0:
            raise Breach(
                f"{arm.name}: {label}: {values[joint]:.4f} {unit} of joint {arm.joints[joint]}, "
                f"{excess[joint]:.4f} where {np.broadcast_to(allowed, excess.shape)[joint]:.4f} {unit} are allowed"
            )
