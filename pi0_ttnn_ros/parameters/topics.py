"""Fully resolved topic names, as a robot's parameters determine them."""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ttnn_ros.parameters.parameters import Parameters

NODE = "pi0_policy"
INSTRUCTION_TOPIC, HEARTBEAT_TOPIC = "~/instruction", "~/heartbeat"
EMERGENCY_STOP_TOPIC = "~/emergency_stop"
CHUNK_TOPIC, STATUS_TOPIC = "~/action_chunk", "~/status"
ROBOT_DESCRIPTION = "robot_description"
JOINT_STATE = "sensor_msgs/msg/JointState"
STRING = "std_msgs/msg/String"
IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CHUNK, STATUS = "pi0_ttnn_ros/msg/ActionChunk", "pi0_ttnn_ros/msg/PolicyStatus"
# Message type of each type of controller that is commanded through a topic.
COMMANDS = {"joint_trajectory": "trajectory_msgs/msg/JointTrajectory", "position": "std_msgs/msg/Float64MultiArray"}


@dataclass(frozen=True)
class Topics:
    """Full names of the node's topics.

    Attributes:
        node: the node's own name.
        cameras: image topics by camera.
        controllers: topics by controller, or names of actions.
    """

    node: str
    cameras: dict[str, str]
    joint_states: str
    controllers: dict[str, str]
    instruction: str
    heartbeat: str
    chunks: str
    status: str
    robot_description: str


def topics_of(parameters: Parameters, namespace: str = "") -> Topics:
    """Return the topics of the node under `namespace`."""

    def resolve(name: str) -> str:
        return full_name(name, namespace)

    return Topics(
        node=resolve(NODE),
        cameras={name: resolve(camera.topic) for name, camera in parameters.cameras.items()},
        joint_states=resolve(parameters.joint_state_topic),
        controllers={name: resolve(controller.topic) for name, controller in parameters.controllers.items()},
        instruction=resolve(INSTRUCTION_TOPIC),
        heartbeat=resolve(HEARTBEAT_TOPIC),
        chunks=resolve(CHUNK_TOPIC),
        status=resolve(STATUS_TOPIC),
        robot_description=resolve(ROBOT_DESCRIPTION),
    )


def recorded_topics(parameters: Parameters, namespace: str = "") -> list[str]:
    """Return what a recording needs for replay: the node's inputs, commands, chunks and status.

    A controller that is commanded through an action has no topic for it.
    """
    topics = topics_of(parameters, namespace)
    commands = [topic for name, topic in topics.controllers.items() if parameters.controllers[name].type in COMMANDS]
    of_node = [topics.instruction, topics.chunks, topics.status]
    return [*topics.cameras.values(), topics.joint_states, *commands, *of_node]


def full_name(name: str, namespace: str) -> str:
    """Return a topic's name with its namespace, as ROS resolves it: `/a` stays, `~/a` is under the node's name."""
    if name.startswith("/"):
        return name
    root = "/" + namespace.strip("/") + "/" if namespace.strip("/") else "/"
    return root + (f"{NODE}/{name[2:]}" if name.startswith("~/") else name)


def image_message_type(topic: str) -> str:
    """Return the message type of an image topic, by image_transport's naming."""
    return COMPRESSED_IMAGE if is_compressed(topic) else IMAGE


def is_compressed(topic: str) -> bool:
    """Return whether an image topic carries compressed images, by image_transport's naming."""
    return topic.endswith("/compressed")
