"""Launch arguments that several launch files have: the robot's parameter file, and who may discover the nodes."""

from __future__ import annotations

import os

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.launch_context import LaunchContext
from launch.launch_description_entity import LaunchDescriptionEntity
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


def discovery_range(default: str = "") -> list[LaunchDescriptionEntity]:
    """Return the argument `discovery_range`, and what applies it to the nodes that follow in the launch description."""
    argument = DeclareLaunchArgument(
        "discovery_range",
        default_value=default,
        choices=["", "LOCALHOST", "SUBNET"],
        description="Which machines may discover the nodes. If empty, as the environment says.",
    )
    return [argument, OpaqueFunction(function=_set_range)]


def _set_range(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    value = LaunchConfiguration("discovery_range").perform(context)
    if not value:
        return []
    if os.environ.get("ROS_DISTRO") == "humble":  # which has no ranges yet
        return [SetEnvironmentVariable("ROS_LOCALHOST_ONLY", str(int(value == "LOCALHOST")))]
    return [SetEnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", value)]
