"""Record what replay needs, until Ctrl-C.

ros2 launch pi0_ttnn_ros record.launch.py robot:=aloha out:=my_bag
"""

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from pi0_ttnn_ros.parameters.reading import parameters_from_yaml
from pi0_ttnn_ros.parameters.topics import recorded_topics
from pi0_ttnn_ros.rclpy_utils.launch import discovery_range, robot_arguments

ARGUMENTS = (
    *robot_arguments(),
    DeclareLaunchArgument("out", default_value="", description="Folder of the bag. If empty, it is named by the time."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
)


def recorder(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the recorder of the topics that the parameter file names."""
    file, out, namespace = (LaunchConfiguration(name).perform(context) for name in ("params_file", "out", "namespace"))
    # No topic depends on the checkpoint.
    topics = recorded_topics(parameters_from_yaml(Path(file), {"checkpoint": "none"}), namespace)
    # Humble does not have --topics yet, later distributions no longer accept a bare list.
    option = [] if os.environ.get("ROS_DISTRO") == "humble" else ["--topics"]
    folder = ["--output", out] if out else []
    command = ["ros2", "bag", "record", "--storage", "mcap", *folder, *option, *topics]
    # It needs time to write its buffer when it is stopped.
    return [ExecuteProcess(cmd=command, output="screen", sigterm_timeout="30", sigkill_timeout="30")]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the recorder."""
    return LaunchDescription([*ARGUMENTS, *discovery_range(), OpaqueFunction(function=recorder)])
