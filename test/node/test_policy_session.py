"""A session that cannot be set up leaves nothing behind: no topics, no processes, no threads."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.node import Node
from rclpy.parameter import Parameter

from pi0_ttnn_ros.controllers.base import ControllerError
from pi0_ttnn_ros.inference.policy_process import COMMAND
from pi0_ttnn_ros.inference.requests import PolicyError
from pi0_ttnn_ros.node import policy_session
from pi0_ttnn_ros.parameters.parameters import Parameters
from pi0_ttnn_ros.rclpy_utils.parameters import NodeParameters
from support.fake_robot import JOINTS, FakeRobot, flat_parameters, good_parameters

NAMESPACE = "/test_policy_session"


@pytest.fixture
def robot(ros):
    robot = FakeRobot(NAMESPACE)
    yield robot
    robot.close()


@pytest.fixture
def make_node(robot):
    """A function that returns a node with these parameters, and the parameters as a session takes them."""
    nodes = []

    def make(parameters) -> tuple[Node, Parameters]:
        overrides = [Parameter(name, value=value) for name, value in flat_parameters(parameters).items()]
        options = {"parameter_overrides": overrides, "allow_undeclared_parameters": True}
        nodes.append(Node("pi0_policy", namespace=NAMESPACE, **options))
        return nodes[-1], NodeParameters(nodes[-1]).read()

    yield make
    for node in nodes:
        node.destroy_node()


def held_by(node: Node) -> dict[str, set]:
    """Return what is there of `node` and of this process."""
    processes: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            processes |= set((task / "children").read_text().split())
    return {
        "topics": {entity.topic_name for entity in (*node.publishers, *node.subscriptions)},
        "actions": set(node.waitables),
        "processes": processes,
        "threads": {thread.name for thread in threading.enumerate()},
    }


def set_up(robot: FakeRobot, node: Node, parameters: Parameters) -> policy_session.PolicySession:
    """Set up a session while the robot publishes its inputs."""
    with ThreadPoolExecutor(thread_name_prefix="set up") as threads:
        session = threads.submit(policy_session.PolicySession, node, parameters, COMMAND, lambda: None)
        robot.spin_until(session.done, label="the session")
    return session.result()


def test_second_controller_fails(robot, make_node, tiny_checkpoint):
    """The first controller's publisher does not stay behind."""
    controllers = {
        "controllers": ["arm", "gripper"],
        "arm": {"type": "joint_trajectory", "topic": "arm", "joints": JOINTS[:-2]},
        "gripper": {"type": "gripper_command", "topic": "gripper", "joints": JOINTS[-2:]},  # which has one joint
    }
    node, parameters = make_node(good_parameters(tiny_checkpoint) | controllers)
    before = held_by(node)
    with pytest.raises(ControllerError, match="gripper"):
        set_up(robot, node, parameters)
    assert held_by(node) == before
    robot.spin_until(lambda: not robot.node.count_publishers(f"{NAMESPACE}/arm"), "no publisher on the graph")


def test_worker_fails(robot, make_node, tiny_checkpoint, monkeypatch):
    """Neither the policy process nor the command loop stays behind when what is opened after them fails."""

    def fail(*_, **__):
        raise RuntimeError("injected")

    monkeypatch.setattr(policy_session.InferenceWorker, "__init__", fail)
    node, parameters = make_node(good_parameters(tiny_checkpoint))
    before = held_by(node)
    with pytest.raises(RuntimeError, match="injected"):
        set_up(robot, node, parameters)
    assert held_by(node) == before
    topic = f"{NAMESPACE}/joint_trajectory_controller/joint_trajectory"
    robot.spin_until(lambda: not robot.node.count_publishers(topic), "no publisher on the graph")


def test_device_cannot_be_opened(robot, make_node, tiny_checkpoint, monkeypatch):
    """What fails on a device names the command that looks for the cause."""
    monkeypatch.setenv("TT_METAL_SIMULATOR", "/nowhere/simulator.so")
    node, parameters = make_node(good_parameters(tiny_checkpoint) | {"backend": "ttnn"})
    with pytest.raises(PolicyError, match=r"/nowhere/simulator.so, which does not exist; run `pi0-ttnn doctor`"):
        set_up(robot, node, parameters)


def test_close(robot, make_node, tiny_checkpoint):
    """A closed session leaves nothing behind."""
    node, parameters = make_node(good_parameters(tiny_checkpoint) | {"introspection": True})
    before = held_by(node)
    session = set_up(robot, node, parameters)
    assert held_by(node) != before
    session.close()
    assert held_by(node) == before
