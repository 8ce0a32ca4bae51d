"""Policy nodes as processes over DDS, and the fake robots that they command.

After each test everything that the robot received is checked: finite, within the limits, continuous, not from a chunk
that is too old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # where ROS 2 is not installed the tests skip themselves
    from rclpy.task import Future

    from support.fake_robot import FakeRobot
    from support.faulty_node import FaultyNode
    from support.processes import Process


@pytest.fixture(scope="package")
def node(ros: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One node for all tests of this folder; a module may define its own."""
    from support.faulty_node import FaultyNode

    node = FaultyNode(tmp_path_factory.mktemp("faults"), "/test_faults")
    yield node
    node.kill()


@pytest.fixture
def robot(node: Process) -> Iterator[FakeRobot]:
    """The robot of `node`, which is inactive again afterwards."""
    from support.fake_robot import FakeRobot, assert_no_old_chunks, assert_within_limits, deactivate

    robot = FakeRobot(node.namespace)
    robot.spin_until(lambda: robot.statuses, "the node's first status")
    yield robot
    deactivate(robot)
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


@pytest.fixture
def start(ros: None, tiny_checkpoint: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[FaultyNode, FakeRobot]]]:
    """A function that starts a node for one test alone, with `good_parameters` but for `changes`, and its robot."""
    from support.fake_robot import FakeRobot, good_parameters, ros_arguments
    from support.faulty_node import FaultyNode

    started: list[tuple[FaultyNode, FakeRobot]] = []

    def run(namespace: str, **changes: object) -> tuple[FaultyNode, FakeRobot]:
        node = FaultyNode(tmp_path, namespace, *ros_arguments(good_parameters(tiny_checkpoint) | changes))
        started.append((node, FakeRobot(namespace)))
        return started[-1]

    yield run
    for node, robot in started:
        node.kill()
        robot.close()


@pytest.fixture
def loading(
    start: Callable[..., tuple[FaultyNode, FakeRobot]],
) -> Callable[[str], tuple[FaultyNode, FakeRobot, Future]]:
    """A function that returns a node whose policy loads for ever, its robot, and the future of configure."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    def run(namespace: str) -> tuple[FaultyNode, FakeRobot, Future]:
        node, robot = start(namespace)
        robot.spin_until(lambda: robot.statuses, "the node's first status")
        node.inject(load_hangs=True)
        client = robot.node.create_client(ChangeState, "pi0_policy/change_state")
        robot.spin_until(client.service_is_ready, "the service")
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        configured = client.call_async(request)
        robot.spin_until(node.children, "a policy process")
        robot.wait_for_status(lambda status: status.lifecycle_state == "configuring", "a status that says so")
        return node, robot, configured

    return run
