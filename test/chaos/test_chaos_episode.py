"""What scripts/soak --chaos draws from a seed."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from support.chaos import operator_faults, process_faults, robot_faults, sensor_faults
from support.chaos.episode import Episode
from support.chaos.fault import faults_of


def test_a_seed_gives_the_same_episodes():
    assert [Episode.draw(7, number) for number in range(20)] == [Episode.draw(7, number) for number in range(20)]


@pytest.mark.parametrize("seed", range(6))
def test_short_runs_have_every_kind_of_robot(seed):
    """Three nodes are enough for all controllers, both clocks and both robots."""
    episodes = [Episode.draw(seed, number) for number in range(3)]
    kinds = [sorted(kind for kind, _ in episode.controllers.values()) for episode in episodes]
    assert sorted(kinds) == [["joint_trajectory"], ["joint_trajectory", "position"], ["position"]]
    assert {episode.simulated for episode in episodes} == {True, False}
    assert {episode.lag > 0 for episode in episodes} == {True, False}


def test_faults_beside_each_other():
    """Faults are played at once only if they touch different things."""
    faults = faults_of(operator_faults, process_faults, robot_faults, sensor_faults)
    assert len({fault.name for fault in faults}) == len(faults) > 30
    for fault in faults:
        assert not fault.beside(fault)
        assert all(fault.touches and not fault.touches & other.touches for other in faults if fault.beside(other))
