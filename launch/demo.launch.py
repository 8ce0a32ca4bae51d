"""Run the policy on the simulated ALOHA robot.

ros2 launch pi0_ttnn_ros demo.launch.py checkpoint:=DIR
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from pi0_ttnn_ros.rclpy_utils.launch import discovery_range


def generate_launch_description() -> LaunchDescription:
    """Return the simulated robot, and policy.launch.py with the robot set-up `demo`.

    By default nothing leaves this machine: the topics have the names of a real robot.
    """
    policy = PathJoinSubstitution([FindPackageShare("pi0_ttnn_ros"), "launch", "policy.launch.py"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("checkpoint", description="Folder of the checkpoint: pi0-ttnn make-checkpoint."),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of both nodes."),
            *discovery_range("LOCALHOST"),
            Node(
                package="pi0_ttnn_ros",
                executable="sim_robot",
                namespace=LaunchConfiguration("namespace"),
                output="screen",
            ),
            IncludeLaunchDescription(
                policy,
                launch_arguments={
                    "robot": "demo",
                    "checkpoint": LaunchConfiguration("checkpoint"),
                    "namespace": LaunchConfiguration("namespace"),
                }.items(),
            ),
        ]
    )
