"""A robot that is at once where it is commanded to be, the worst case of a command that jumps."""

from __future__ import annotations

import numpy as np

from pi0_ttnn_ros.aloha.trajectory_follower import TrajectoryFollower, Waypoints
from pi0_ttnn_ros.execution.chunk_executor import ChunkExecutor, Plan

SAMPLING_NS = 20_000_000  # the time between two joint states


class ObedientRobot:
    """Follows the plans of an executor exactly; while the plan rests, others may move it.

    Attributes:
        executor: makes the plans.
        plans: those that were published.
        sag: rad, how much lower than commanded it rests.
        lag: s, time constant with which it follows; 0: at once.
    """

    def __init__(self, executor: ChunkExecutor, positions: np.ndarray, sag: float = 0.0, lag: float = 0.0) -> None:
        self.executor = executor
        self.plans: list[Plan] = []
        self.sag = sag
        self.lag = lag
        self._lagging = positions
        self._follower = TrajectoryFollower(positions)
        self._moved: np.ndarray | None = positions
        self._resting = True
        self.now_ns = 0

    @property
    def positions(self) -> np.ndarray:
        """Return where it is."""
        return self._lagging if self._moved is None else self._moved

    def move(self, positions: np.ndarray) -> None:
        """Move it by hand; it stays there until it is commanded again."""
        self._moved = positions

    def run(self, now_ns: int) -> float:
        """Let the executor plan until `now_ns` once per SAMPLING_NS; return the highest speed of a joint, rad/s."""
        fastest = 0.0
        while self.now_ns < now_ns:
            before = self.positions
            self.step(SAMPLING_NS)
            fastest = max(fastest, float(np.abs(self.positions - before).max()) / (SAMPLING_NS * 1e-9))
        return fastest

    def step(self, elapsed_ns: int) -> None:
        """Let time pass, then plan, publish and follow as the command loop and a controller do."""
        self.now_ns += elapsed_ns
        wanted = self._follower.sample(self.now_ns)[0] - self.sag
        share = 1 - np.exp(-elapsed_ns * 1e-9 / self.lag) if self.lag else 1.0
        self._lagging = self._lagging + share * (wanted - self._lagging)
        self.executor.observe(self.positions, self.now_ns)
        plan = self.executor.plan(self.now_ns)
        if plan is None:
            return
        if not (self._resting and plan.at_rest):
            self.plans.append(plan)
            self._lagging, self._moved = self.positions, None
            waypoints = Waypoints(plan.stamp_ns, plan.times_ns, plan.positions, plan.velocities)
            self._follower = TrajectoryFollower(plan.positions[0])
            self._follower.replace(waypoints, plan.stamp_ns - 1)
            if not self.lag:
                self._lagging = self._follower.sample(self.now_ns)[0] - self.sag
        self._resting = plan.at_rest
