"""Record what replay needs: ros2 launch pi0_ttnn_ros record.launch.py robot:=aloha out:=my_bag

Ctrl-C ends the recording.
"""

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from pi0_ttnn_ros.parameters.parameters import parameters_from_yaml
from pi0_ttnn_ros.parameters.topics import recorded_topics

ARGUMENTS = (
    DeclareLaunchArgument("robot", default_value="aloha", description="Robot set-up: config/ROBOT.yaml."),
    DeclareLaunchArgument(
        "params_file",
        default_value=[
            PathJoinSubstitution([FindPackageShare("pi0_ttnn_ros"), "config", LaunchConfiguration("robot")]),
            ".yaml",
        ],
        description="Parameter file of the node; by default that of the robot.",
    ),
    DeclareLaunchArgument("out", default_value="", description="Folder of the bag; empty: named by the time."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
)


def recorder(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the recorder of the topics that the parameter file names."""
    file, out, namespace = (LaunchConfiguration(name).perform(context) for name in ("params_file", "out", "namespace"))
    # The checkpoint decides nothing about topics.
    topics = recorded_topics(parameters_from_yaml(Path(file), {"checkpoint": "none"}), namespace)
    # Humble does not know --topics yet, later ones give up on the bare list.
    option = [] if os.environ.get("ROS_DISTRO") == "humble" else ["--topics"]
    folder = ["--output", out] if out else []
    command = ["ros2", "bag", "record", "--storage", "mcap", *folder, *option, *topics]
    # It writes what it still holds before it ends.
    return [ExecuteProcess(cmd=command, output="screen", sigterm_timeout="30", sigkill_timeout="30")]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the recorder."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=recorder)])
