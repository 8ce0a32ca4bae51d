"""config/sros2_policy.xml allows what the node does: a topic or service that it lacks would fail with security on."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition
from rclpy.node import Node, NodeNameNonExistentError

from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from pi0_ttnn_ros.parameters.topics import topics_of
from pi0_ttnn_ros.system.package_files import package_file, robot_file
from support.fake_robot import CAMERAS

NAMESPACE = "/test_security_policy"
POLICY = package_file("config", "sros2_policy.xml")
# What the graph tells of a node, by the policy's word for it.
GRAPH = {
    "publish": Node.get_publisher_names_and_types_by_node,
    "subscribe": Node.get_subscriber_names_and_types_by_node,
    "reply": Node.get_service_names_and_types_by_node,
    "request": Node.get_client_names_and_types_by_node,
}


def allowed(file: Path, enclave: str, namespace: str = "") -> dict[str, set[str]]:
    """Return the full names that a policy allows, by what may be done with them."""
    names = defaultdict(set)
    (profile,) = ElementTree.parse(file).findall(f".//enclave[@path='{enclave}']/profiles/profile")
    for rule in profile:
        for entry in rule:
            name = entry.text
            if name.startswith("~"):
                name = f"{profile.get('node')}{name[1:]}"
            names[next(iter(rule.keys()))].add(name if name.startswith("/") else f"{namespace}/{name}")
    return names


def used(observer: Node) -> dict[str, set[str]]:
    """Return the full names that the node and its helpers use now, by what is done with them."""
    names = defaultdict(set)
    for name, namespace in observer.get_node_names_and_namespaces():
        if namespace == NAMESPACE and name.startswith("pi0_policy"):
            for use, ask in GRAPH.items():
                with contextlib.suppress(NodeNameNonExistentError):  # a helper that has just ended
                    names[use] |= {topic for topic, _ in ask(observer, name, namespace)}
    return names


def test_policy_allows_what_the_node_uses(start):
    """From its start until it moves the robot."""
    _, robot = start(NAMESPACE, introspection=True, heartbeat_timeout=50.0)
    robot.spin_until(lambda: robot.statuses, "the node's first status")
    seen = defaultdict(set)

    def state(wanted: str) -> bool:
        for use, names in used(robot.node).items():
            seen[use] |= names
        return robot.status.lifecycle_state == wanted

    robot.spin_until(lambda: state("unconfigured"), "the start")
    for transition, wanted in (
        (Transition.TRANSITION_CONFIGURE, "inactive"),
        (Transition.TRANSITION_ACTIVATE, "active"),
    ):
        assert robot.change_state(transition)
        robot.spin_until(lambda wanted=wanted: state(wanted), wanted)
    permitted = allowed(POLICY, "/pi0_policy", NAMESPACE)
    permitted["subscribe"] |= {f"{NAMESPACE}/{camera}/image" for camera in CAMERAS}
    for use, names in seen.items():
        assert names <= permitted[use], f"{use}: {sorted(names - permitted[use])}"
    assert len(seen["publish"]) > 8 and len(seen["subscribe"]) > 5 and len(seen["reply"]) > 12


def test_policy_has_the_demo_s_topics():
    """The robot in it is that of config/demo.yaml."""
    topics = topics_of(parameters_from_yaml(robot_file("demo"), {"checkpoint": "none"}))
    permitted = allowed(POLICY, "/pi0_policy")
    wanted = {*topics.cameras.values(), topics.joint_states, topics.instruction, topics.robot_description}
    assert wanted <= permitted["subscribe"]
    assert {*topics.controllers.values(), topics.chunks, topics.status} <= permitted["publish"]


def test_operator_is_allowed_what_the_node_offers():
    """Every name that the operator may use is one of the node's."""
    node, operator = allowed(POLICY, "/pi0_policy"), allowed(POLICY, "/operator")
    shared = {"/parameter_events", "/rosout", "/clock"}
    assert operator["publish"] - shared <= node["subscribe"]
    assert operator["subscribe"] - shared <= node["publish"]
    assert operator["request"] <= node["reply"]
