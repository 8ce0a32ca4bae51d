"""The topics that a robot's parameters name, as they are called on the robot and in a bag. Knows nothing of ROS."""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ttnn_ros.parameters.parameters import Parameters

NODE = "pi0_policy"
INSTRUCTION_TOPIC, HEARTBEAT_TOPIC = "~/instruction", "~/heartbeat"
CHUNK_TOPIC, STATUS_TOPIC = "~/action_chunk", "~/status"
ROBOT_DESCRIPTION = "robot_description"
JOINT_STATE = "sensor_msgs/msg/JointState"
STRING = "std_msgs/msg/String"
IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CHUNK, STATUS = "pi0_ttnn_ros/msg/ActionChunk", "pi0_ttnn_ros/msg/PolicyStatus"
# What a controller of each type is commanded with, where it is a topic.
COMMANDS = {"joint_trajectory": "trajectory_msgs/msg/JointTrajectory", "position": "std_msgs/msg/Float64MultiArray"}


@dataclass(frozen=True)
class Topics:
    """Full names of the node's topics.

    cameras: by the camera's name
    controllers: in the order of `controller_topics`; those of actions are among them
    """

    cameras: dict[str, str]
    joint_states: str
    controllers: list[str]
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
        cameras={
            camera: resolve(topic) for camera, topic in zip(parameters.cameras, parameters.camera_topics, strict=True)
        },
        joint_states=resolve(parameters.joint_state_topic),
        controllers=[resolve(topic) for topic in parameters.controller_topics],
        instruction=resolve(INSTRUCTION_TOPIC),
        heartbeat=resolve(HEARTBEAT_TOPIC),
        chunks=resolve(CHUNK_TOPIC),
        status=resolve(STATUS_TOPIC),
        robot_description=resolve(ROBOT_DESCRIPTION),
    )


def recorded_topics(parameters: Parameters, namespace: str = "") -> list[str]:
    """Return what a recording needs for replay: the node's inputs, what it commands, its chunks and its status.

    A gripper that is commanded by an action has no topic for it.
    """
    topics = topics_of(parameters, namespace)
    commands = [
        topic for topic, kind in zip(topics.controllers, parameters.controller_types, strict=True) if kind in COMMANDS
    ]
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
    return COMPRESSED_IMAGE if topic.endswith("/compressed") else IMAGE
