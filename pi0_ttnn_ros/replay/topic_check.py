"""Whether a bag has a topic that the node needs, and what to do if it does not."""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ttnn_ros.bags.reader import Bag


@dataclass(frozen=True)
class TopicProblem:
    """Why no messages can be read from a topic, and the remedy."""

    text: str
    remedy: str


def check_topic(bag: Bag, topic: str, type_name: str) -> TopicProblem | None:
    """Return why a topic has no messages of a type; None if it has."""
    found = bag.topics.get(topic)
    if found is None:
        return TopicProblem("is not in the bag", _alternative(bag, topic, type_name))
    if found.type != type_name:
        return TopicProblem(f"is of type {found.type}, expected {type_name}", _alternative(bag, topic, type_name))
    if not found.count:
        return TopicProblem("has no messages", "record it while it is published, with a compatible QoS")
    return None


def _alternative(bag: Bag, topic: str, type_name: str) -> str:
    """Return what to do without a topic, by which others the bag has."""
    for other in bag.topics:
        if other.endswith(topic) and other != topic:
            return f"the bag has {other}: give --namespace {other.removesuffix(topic).strip('/')}"
    for other in (f"{topic}/compressed", topic.removesuffix("/compressed")):
        if other != topic and other in bag.topics:
            return f"the bag has {other}: set that as the camera's topic in the robot's YAML"
    others = sorted(other.name for other in bag.topics.values() if other.type == type_name)
    if others:
        return f"correct its name in the robot's YAML (of its type the bag has {', '.join(others)}), or record it"
    return f"record it: no topic in the bag is of type {type_name}"
