"""Replay a recorded bag and write a report.

ros2 launch pi0_ttnn_ros replay.launch.py bag:=BAG checkpoint:=DIR
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare

from pi0_ttnn_ros.rclpy_utils.launch import discovery_range

# One whose default is empty is passed on only if it is set.
PASSED_ON = ("mode", "robot", "checkpoint", "out", "backend", "instruction", "reference", "ground_truth", "namespace")
ARGUMENTS = (
    DeclareLaunchArgument("bag", description="The bag, or a folder of bags."),
    DeclareLaunchArgument("checkpoint", description="Folder of the checkpoint."),
    DeclareLaunchArgument("robot", default_value="aloha", description="Robot set-up, or a parameter file."),
    DeclareLaunchArgument("out", default_value="replay", description="Folder for report.html and report.json."),
    DeclareLaunchArgument(
        "mode",
        default_value="open-loop",
        choices=["open-loop", "live"],
        description="open-loop: as fast as it goes, without a node; live: in the bag's time, through the node.",
    ),
    DeclareLaunchArgument("backend", default_value="torch", description="What runs the model."),
    DeclareLaunchArgument("instruction", default_value="", description="Instruction, where the bag has none."),
    DeclareLaunchArgument(
        "reference", default_value="", description="Compare with another backend (torch, ttnn) or with recorded chunks."
    ),
    DeclareLaunchArgument(
        "ground_truth",
        default_value="joint_states",
        choices=["joint_states", "commands"],
        description="Recorded motion to compare the predictions with.",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
)


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the process that replays, and for live replay the node that it replays into."""
    values = {name: LaunchConfiguration(name).perform(context) for name in (*PASSED_ON, "bag")}
    options = [word for name in PASSED_ON if values[name] for word in (f"--{name.replace('_', '-')}", values[name])]
    command = [
        PathJoinSubstitution([FindPackagePrefix("pi0_ttnn_ros"), "lib", "pi0_ttnn_ros", "replay"]),
        values["bag"],
        *options,
    ]
    process = ExecuteProcess(cmd=command, output="screen", emulate_tty=True, on_exit=end)
    return [process, *([node(values)] if values["mode"] == "live" else [])]


def node(values: dict[str, str]) -> IncludeLaunchDescription:
    """Return the policy node in the bag's time."""
    passed = {name: values[name] for name in ("checkpoint", "backend", "namespace")}
    robot = values["robot"]
    which = {"params_file": robot} if robot.endswith((".yaml", ".yml")) else {"robot": robot}
    policy = PathJoinSubstitution([FindPackageShare("pi0_ttnn_ros"), "launch", "policy.launch.py"])
    return IncludeLaunchDescription(policy, launch_arguments={**passed, **which, "use_sim_time": "true"}.items())


def end(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """End the launch; `ros2 launch` ends with 1 where the verdict did not pass or there is none."""
    if event.returncode:
        raise RuntimeError(f"the replay ended with {event.returncode}: 1 the verdict did not pass, 2 an error")
    return [Shutdown(reason="the verdict passed")]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and what they ask for.

    By default nothing leaves this machine: the bag's topics, and the node's commands, have the names of the real robot.
    """
    return LaunchDescription([*ARGUMENTS, *discovery_range("LOCALHOST"), OpaqueFunction(function=replay)])
