"""Start the policy node and activate it.

ros2 launch pi0_ttnn_ros policy.launch.py checkpoint:=DIR
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from pi0_ttnn_ros.rclpy_utils.launch import discovery_range, robot_arguments

ARGUMENTS = (
    *robot_arguments(),
    DeclareLaunchArgument("checkpoint", description="Folder of the checkpoint."),
    DeclareLaunchArgument("backend", default_value="torch", description="What runs the model."),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="Use the time of /clock."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
    DeclareLaunchArgument("autostart", default_value="true", description="Configure and activate the node."),
)


def policy_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the node and, for autostart, the chain configure -> inactive -> activate."""
    node = LifecycleNode(
        package="pi0_ttnn_ros",
        executable="policy_node",
        name="pi0_policy",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "checkpoint": ParameterValue(LaunchConfiguration("checkpoint"), value_type=str),
                "backend": ParameterValue(LaunchConfiguration("backend"), value_type=str),
                "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
            },
        ],
        ros_arguments=["--log-level", ["pi0_policy:=", LaunchConfiguration("log_level")]],
        output="screen",
    )

    def change_state(transition: int) -> EmitEvent:
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    autostart = IfCondition(LaunchConfiguration("autostart"))
    configure = RegisterEventHandler(
        OnProcessStart(target_action=node, on_start=[change_state(Transition.TRANSITION_CONFIGURE)]),
        condition=autostart,
    )
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[change_state(Transition.TRANSITION_ACTIVATE)],
        ),
        condition=autostart,
    )
    # The handlers come first: they have to exist when the process starts.
    return [configure, activate, node]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the node."""
    return LaunchDescription([*ARGUMENTS, *discovery_range(), OpaqueFunction(function=policy_node)])
