"""Launch arguments that select a robot's parameter file, for several launch files."""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def robot_arguments() -> list[DeclareLaunchArgument]:
    """Return `robot` and `params_file`, whose default is the file of `robot` in config/."""
    config = PathJoinSubstitution([FindPackageShare("pi0_ttnn_ros"), "config", LaunchConfiguration("robot")])
    return [
        DeclareLaunchArgument("robot", default_value="aloha", description="Robot set-up: config/ROBOT.yaml."),
        DeclareLaunchArgument(
            "params_file",
            default_value=[config, ".yaml"],
            description="Parameter file of the node. By default, that of the robot.",
        ),
    ]
