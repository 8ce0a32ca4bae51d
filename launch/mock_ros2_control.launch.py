"""Run the policy on an arm that ros2_control simulates: its own controller manager and controllers, mock hardware.

pi0-ttnn make-checkpoint --config tiny --out tiny_arm --arms 1
ros2 launch pi0_ttnn_ros mock_ros2_control.launch.py checkpoint:=tiny_arm
ros2 topic pub --once /pi0_policy/instruction std_msgs/msg/String "data: wave"
"""

import json
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from pi0_ttnn_ros.rclpy_utils.launch import discovery_range

CONTROLLERS = ["joint_state_broadcaster", "arm_controller", "gripper_controller"]
IMAGE = {"header": "auto", "height": 4, "width": 4, "encoding": "mono8", "step": 4, "data": [90] * 16}
ARGUMENTS = (
    DeclareLaunchArgument("checkpoint", description="Folder of the checkpoint: pi0-ttnn make-checkpoint --arms 1."),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([FindPackageShare("pi0_ttnn_ros"), "config", "mock_arm.yaml"]),
        description="Parameter file of the policy node.",
    ),
    DeclareLaunchArgument(
        "mock_camera", default_value="true", description="Publish a grey image on camera/image_raw at 15 Hz."
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of all nodes."),
)


def nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the mock arm with its controllers, and policy.launch.py."""
    share = FindPackageShare("pi0_ttnn_ros")
    arm = Path(PathJoinSubstitution([share, "config", "mock_arm"]).perform(context))
    controllers, urdf = str(arm / "controllers.yaml"), (arm / "arm.urdf").read_text(encoding="utf-8")
    namespace = LaunchConfiguration("namespace")
    passed = {name: LaunchConfiguration(name) for name in ("checkpoint", "params_file", "namespace")}
    policy = PathJoinSubstitution([share, "launch", "policy.launch.py"])
    return [
        Node(
            package="controller_manager",
            executable="ros2_control_node",
            namespace=namespace,
            parameters=[controllers],
            output="screen",
        ),
        # Once, and latched. The transforms of robot_state_publisher are not needed here.
        publisher(
            *("robot_description", "std_msgs/msg/String", {"data": urdf}),
            *("--rate", "0.001", "--qos-durability", "transient_local", "--qos-reliability", "reliable"),
        ),
        Node(
            package="controller_manager",
            executable="spawner",
            namespace=namespace,
            arguments=[*CONTROLLERS, "--param-file", controllers],
            output="screen",
        ),
        publisher(
            *("camera/image_raw", "sensor_msgs/msg/Image", IMAGE, "--rate", "15"),
            condition=IfCondition(LaunchConfiguration("mock_camera")),
        ),
        IncludeLaunchDescription(policy, launch_arguments=passed.items()),
    ]


def publisher(topic: str, message_type: str, message: dict, *options: str, **launch_options: object) -> ExecuteProcess:
    """Return `ros2 topic pub`, which publishes a message again and again on a topic of the namespace."""
    name = [LaunchConfiguration("namespace"), "/", topic]
    command = ["ros2", "topic", "pub", "--print", "0", *options, name, message_type, json.dumps(message)]
    return ExecuteProcess(cmd=command, output="log", **launch_options)


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, the mock arm and the policy node.

    By default nothing leaves this machine: the topics have the names of a real robot.
    """
    return LaunchDescription([*ARGUMENTS, *discovery_range("LOCALHOST"), OpaqueFunction(function=nodes)])
