"""The robot's arms as the judge sees them: each obeys its controller at once, which is the worst case."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from support.chaos.motion import Motion

ENCODER_NOISE = 2e-4  # rad; without any, a driver that hangs could not be told from an arm at rest
HISTORY_NS = 3_000_000_000  # of joint states that are kept


class Arm:
    """The joints of one controller.

    Attributes:
        name: name of the controller.
        joints: indices of its joints among all joints of the robot.
        blocked: whether it ignores commands: a protective stop, or no controller runs.
    """

    def __init__(self, name: str, joints: Sequence[int], positions: np.ndarray) -> None:
        self.name = name
        self.joints = list(joints)
        self.blocked = False
        self._slack, self._slack_until_ns = 0.0, 0
        self._rest = positions.astype(np.float64)
        self._motion: Motion | None = None

    def allow(self, slack: float, until_ns: int) -> None:
        """Let commands be off by `slack` rad in addition until a system's time, after what the node cannot see yet."""
        self._slack, self._slack_until_ns = slack, until_ns

    def slack(self, wall_ns: int) -> float:
        """Return how far a command may be off in addition at a system's time, rad."""
        return self._slack if wall_ns < self._slack_until_ns else 0.0

    def state(self, time_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and velocities [joints] at a time of the node's clock."""
        return (self._rest, np.zeros_like(self._rest)) if self._motion is None else self._motion.at(time_ns)

    def moving_until_ns(self, time_ns: int) -> int:
        """Return when the arm comes to rest, on the node's clock; `time_ns` if it rests then."""
        return time_ns if self._motion is None else max(time_ns, self._motion.moving_until_ns)

    def follow(self, motion: Motion) -> None:
        """Follow a trajectory from now on."""
        if not self.blocked:
            self._motion = motion

    def stay(self, positions: np.ndarray) -> None:
        """Be at `positions` [joints] and stay there until the next command."""
        self._rest, self._motion = positions.astype(np.float64), None


class Sensors:
    """What the encoders measure of the arms: the arms themselves, or late and with a steady-state error.

    Attributes:
        published_ns: system's time of the newest sample that the node could receive.
    """

    def __init__(self, arms: Sequence[Arm], lag: float, droop: float) -> None:
        """`lag`: time constant in s; `droop`: rad below the command at rest. An arm that obeys at once has neither."""
        self.published_ns = 0
        self._arms = arms
        self._lag = lag
        self._droop = droop
        self._history: deque[tuple[int, np.ndarray]] = deque()

    def sample(self, wall_ns: int, time_ns: int) -> np.ndarray:
        """Return the positions of all joints now, and keep them."""
        wanted = np.zeros(sum(len(arm.joints) for arm in self._arms))
        for arm in self._arms:
            wanted[arm.joints] = arm.state(time_ns)[0]
        if self._lag and self._history:
            before_ns, before = self._history[-1]
            share = 1.0 - np.exp(-(wall_ns - before_ns) * 1e-9 / self._lag)
            wanted = before + share * (wanted - self._droop - before)
        self._history.append((wall_ns, wanted))
        while self._history[0][0] < wall_ns - HISTORY_NS:
            self._history.popleft()
        return wanted

    def put(self, wall_ns: int, arm: Arm, positions: np.ndarray) -> None:
        """Let a hand move an arm to `positions` [joints of the arm]."""
        arm.stay(positions)
        moved = self._history[-1][1].copy()
        moved[arm.joints] = positions
        self._history.append((wall_ns, moved))

    def measured(self, arm: Arm, wall_ns: int) -> np.ndarray:
        """Return the newest measured positions [joints of the arm] at a time."""
        for sampled_ns, positions in reversed(self._history):
            if sampled_ns <= wall_ns:
                return positions[arm.joints]
        return self._history[0][1][arm.joints]

    def moved(self, arm: Arm, wall_ns: int, window_ns: int) -> np.ndarray:
        """Return how far the measured positions [joints of the arm] were at most from the newest in a window, rad."""
        newest = self.measured(arm, wall_ns)
        recent = [positions for sampled_ns, positions in self._history if wall_ns - window_ns <= sampled_ns <= wall_ns]
        return np.max([np.abs(positions[arm.joints] - newest) for positions in recent] or [0.0 * newest], axis=0)
