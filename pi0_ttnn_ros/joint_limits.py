"""The joints' limits: from the parameters, and what they leave out from the URDF on `robot_description`."""

from __future__ import annotations

import time
from xml.etree import ElementTree

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from pi0_ttnn_ros.parameters import ParameterError, Parameters
from pi0_ttnn_ros.safety import Limits

TOPIC = "robot_description"
# A continuous joint has no position limits in its URDF; rad.
CONTINUOUS = 1e6
URDF_NAMES = {"position_min": "lower", "position_max": "upper", "max_velocity": "velocity"}


def joint_limits(node: Node, parameters: Parameters) -> Limits:
    """Return the limits of `joint_names`.

    Raises:
        ParameterError: one is neither in the parameters nor in the URDF, or does not make sense.
    """
    values = {name: list(getattr(parameters, name)) for name in (*URDF_NAMES, "max_acceleration")}
    missing = [name for name, given in values.items() if not given]
    if missing:
        described = urdf_limits(_robot_description(node, missing, parameters.input_wait))
        for name in missing:
            values[name] = [_of(described, joint, name) for joint in parameters.joint_names]
    limits = Limits(tuple(parameters.joint_names), **{name: np.array(given) for name, given in values.items()})
    for index, joint in enumerate(limits.joint_names):
        if limits.position_min[index] >= limits.position_max[index]:
            raise ParameterError(f"position_min of joint {joint!r} is not below its position_max")
        for name in ("max_velocity", "max_acceleration"):
            if getattr(limits, name)[index] <= 0:
                raise ParameterError(f"{name} of joint {joint!r} must be above 0")
    return limits


def urdf_limits(urdf: str) -> dict[str, dict[str, float]]:
    """Return what a URDF says of each joint's limits, by the parameters' names.

    Raises:
        ParameterError: it is no XML.
    """
    try:
        joints = ElementTree.fromstring(urdf).iter("joint")
    except ElementTree.ParseError as error:
        raise ParameterError(f"{TOPIC} is no URDF: {error}") from error
    found: dict[str, dict[str, float]] = {}
    for joint in joints:
        limit = joint.find("limit")
        if limit is None:
            continue
        values = {name: float(limit.get(key, "nan")) for name, key in URDF_NAMES.items()}
        if joint.get("type") == "continuous":
            values["position_min"], values["position_max"] = -CONTINUOUS, CONTINUOUS
        found[joint.get("name", "")] = {name: value for name, value in values.items() if np.isfinite(value)}
    return found


def _of(described: dict[str, dict[str, float]], joint: str, name: str) -> float:
    if name not in described.get(joint, {}):
        raise ParameterError(f"parameter {name} is not set, and {TOPIC} has no such limit of joint {joint!r}")
    return described[joint][name]


def _robot_description(node: Node, missing: list[str], timeout: float) -> str:
    """Receive on a node of its own: the calling node is in a transition and cannot spin."""
    topic = node.resolve_topic_name(TOPIC)
    probe = Node(f"{node.get_name()}_description", context=node.context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(probe)
    heard: list[String] = []
    try:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        probe.create_subscription(String, topic, heard.append, latched)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not heard:
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        probe.destroy_node()
    if not heard:
        raise ParameterError(f"parameters {missing} are not set, and nothing arrived on {topic} in {timeout:g} s")
    return heard[0].data
