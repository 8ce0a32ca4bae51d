"""Policy nodes as processes over DDS, and the fake robots that they command.

After each test everything that the robot received is checked: finite, within the limits, continuous, not from a chunk
that is too old.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from support.fake_robot import (
    FakeRobot,
    assert_no_old_chunks,
    assert_within_limits,
    deactivate,
    good_parameters,
    ros_arguments,
)
from support.processes import Process

NODE = str(Path(__file__).parents[1] / "support/faulty_policy_node.py")


class FaultyNode(Process):
    """The policy node whose backend fails as `inject` says."""

    def __init__(self, folder: Path, namespace: str, *ros_arguments: str) -> None:
        self._faults = folder / "faults.json"
        self.inject()
        super().__init__([NODE, str(self._faults)], folder / "log", *ros_arguments, namespace=namespace)

    def inject(self, **faults: object) -> None:
        """Replace the injected faults; without arguments nothing fails. See `faulty_policy_server`."""
        new = self._faults.with_suffix(".new")
        new.write_text(json.dumps(faults))
        new.rename(self._faults)  # never half written

    @property
    def policy_process(self) -> int:
        """Return the id of the process that infers."""
        (child,) = self.children()
        return child


@pytest.fixture(scope="package")
def node(ros: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One node for all tests of this folder; a module may define its own."""
    node = FaultyNode(tmp_path_factory.mktemp("faults"), "/test_faults")
    yield node
    node.kill()


@pytest.fixture
def robot(node: Process) -> Iterator[FakeRobot]:
    """The robot of `node`, which is inactive again afterwards."""
    robot = FakeRobot(node.namespace)
    robot.spin_until(lambda: robot.statuses, "the node's first status")
    yield robot
    deactivate(robot)
    robot.enable(True)
    robot.trigger("reset")
    assert node.process.poll() is None, node.log
    assert_within_limits(robot.trajectories)
    assert_no_old_chunks(robot)
    robot.close()


@pytest.fixture
def inject(robot: FakeRobot, node: FaultyNode) -> Iterator[Callable[..., None]]:
    """`FaultyNode.inject`, without faults again afterwards."""
    yield node.inject
    node.inject()


Start = Callable[..., tuple[FaultyNode, FakeRobot]]


@pytest.fixture
def start(ros: None, tiny_checkpoint: Path, tmp_path: Path) -> Iterator[Start]:
    """A function that starts a node for one test alone, with `good_parameters` but for `changes`, and its robot."""
    started: list[tuple[FaultyNode, FakeRobot]] = []

    def run(namespace: str, **changes: object) -> tuple[FaultyNode, FakeRobot]:
        node = FaultyNode(tmp_path, namespace, *ros_arguments(good_parameters(tiny_checkpoint) | changes))
        started.append((node, FakeRobot(namespace)))
        return started[-1]

    yield run
    for node, robot in started:
        node.kill()
        robot.close()
