"""Every parameter of the policy node, declared once: type, default, range, description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CONTROLLER_TYPES = (
    "joint_trajectory",
    "follow_joint_trajectory",
    "position",
    "gripper_command",
    "parallel_gripper_command",
)


@dataclass(frozen=True)
class Declaration:
    """One parameter. An array without a default is empty until it is set; `bounds` are inclusive.

    A `live` parameter can be changed at any time, the others take effect at configure.
    """

    name: str
    type: str
    default: Any
    description: str
    bounds: tuple[float, float] | None = None
    live: bool = False


BOOL, STRING, INTEGER, DOUBLE = "bool", "string", "integer", "double"
STRINGS, INTEGERS, DOUBLES = "string array", "integer array", "double array"
PYTHON_TYPES = {BOOL: bool, STRING: str, INTEGER: int, DOUBLE: float, STRINGS: str, INTEGERS: int, DOUBLES: float}
ARRAYS = (STRINGS, INTEGERS, DOUBLES)
DECLARATIONS = (
    Declaration("checkpoint", STRING, "", "Folder of the checkpoint. Required."),
    Declaration("backend", STRING, "torch", "What runs the model: torch (CPU) or ttnn (Wormhole)."),
    Declaration("dtype", STRING, "float32", "Of weights and activations on the torch backend: float32 or bfloat16."),
    Declaration(
        "precision",
        STRING,
        "default",
        "Preset of dtypes and math fidelity on the ttnn backend: accuracy, default, fast.",
    ),
    Declaration("num_steps", INTEGER, 0, "Euler steps of the flow; 0 takes the checkpoint's number.", (0, 100)),
    Declaration("seed", INTEGER, 0, "Of the noise, which seed and observation stamp decide.", (0, 2**31 - 1)),
    Declaration("instruction", STRING, "", "Instruction at the start; empty waits for one on the topic ~/instruction."),
    Declaration("inference_rate", DOUBLE, 10.0, "Upper bound of inferences per second, Hz.", (0.1, 100.0), live=True),
    Declaration(
        "inference_timeout",
        DOUBLE,
        5.0,
        "An inference that takes longer hangs: the robot holds and the policy is opened again, s.",
        (0.05, 3600.0),
        live=True,
    ),
    Declaration("load_timeout", DOUBLE, 900.0, "How long the policy may take to load, s.", (1.0, 36000.0)),
    Declaration(
        "strategy",
        STRING,
        "asynchronous",
        "How chunks follow each other: synchronous, asynchronous, blended, rtc.",
    ),
    Declaration(
        "execution_horizon",
        INTEGER,
        0,
        "Actions of a chunk that synchronous executes before it infers again; 0 for all.",
        (0, 1000),
    ),
    Declaration(
        "temporal_ensemble_coeff",
        DOUBLE,
        0.01,
        "blended weighs the n-th oldest chunk with exp(-coefficient * n).",
        (-10.0, 10.0),
    ),
    Declaration("command_rate", DOUBLE, 50.0, "Plans per second, and points per second of them, Hz.", (5.0, 500.0)),
    Declaration("time_step", DOUBLE, 0.02, "Time between two actions, s: that of the training data.", (0.001, 1.0)),
    Declaration("cameras", STRINGS, None, "The checkpoint's camera names that this robot has. Required."),
    Declaration(
        "camera_topics",
        STRINGS,
        None,
        "Image topic of each camera; CompressedImage where it ends in /compressed. Required.",
    ),
    Declaration(
        "transforms",
        STRINGS,
        None,
        "Steps between the robot's units and the checkpoint's, in this order: "
        "degrees, joint_signs, gripper_range, aloha, relative_actions.",
    ),
    Declaration("degrees.joints", STRINGS, None, "Joints in rad here that the checkpoint knows in degrees."),
    Declaration("joint_signs.joints", STRINGS, None, "Joints that turn the other way in the checkpoint."),
    Declaration("gripper_range.joints", STRINGS, None, "Grippers whose range differs in the checkpoint."),
    Declaration("gripper_range.robot", DOUBLES, None, "Such a gripper closed and open on the robot, rad or m."),
    Declaration("gripper_range.model", DOUBLES, None, "The same closed and open in the checkpoint's data."),
    Declaration(
        "relative_actions.joints",
        STRINGS,
        None,
        "Joints whose actions are offsets from the state, where the checkpoint does not say so itself (openpi's).",
    ),
    Declaration(
        "conventions",
        STRING,
        "",
        "Whose prompt and normalisation hold: lerobot or openpi; empty: those of the checkpoint's layout.",
    ),
    Declaration(
        "normalization_key", STRING, "", "Asset id of the statistics, where an openpi checkpoint holds several."
    ),
    Declaration("tokenizer", STRING, "", "PaliGemma's tokenizer file; empty: the one in the checkpoint's folder."),
    Declaration("joint_state_topic", STRING, "joint_states", "Topic of the measured joint states."),
    Declaration("joint_names", STRINGS, None, "Joints in the order of the checkpoint's state and action. Required."),
    Declaration(
        "controller_topics",
        STRINGS,
        ["joint_trajectory_controller/joint_trajectory"],
        "Topic of each controller; of an action its name.",
    ),
    Declaration(
        "controller_types",
        STRINGS,
        ["joint_trajectory"],
        "Type of each controller: joint_trajectory (JointTrajectory), follow_joint_trajectory (FollowJointTrajectory), "
        "position (Float64MultiArray), gripper_command (GripperCommand), "
        "parallel_gripper_command (ParallelGripperCommand).",
    ),
    Declaration(
        "controller_of_joint",
        INTEGERS,
        None,
        "For each joint the index of its controller in controller_topics; empty: all have the first.",
    ),
    Declaration(
        "stamp_trajectories",
        BOOL,
        True,
        "Trajectories say when they start; false: on arrival, for a controller whose clock differs.",
    ),
    Declaration("gripper_max_effort", DOUBLE, 20.0, "Force of gripper controllers with an action, N.", (0.0, 1000.0)),
    Declaration("position_min", DOUBLES, None, "Lower position limit of each joint, rad or m; empty: the URDF's."),
    Declaration("position_max", DOUBLES, None, "Upper position limit of each joint, rad or m; empty: the URDF's."),
    Declaration("max_velocity", DOUBLES, None, "Velocity limit of each joint, rad/s or m/s; empty: the URDF's."),
    Declaration("max_acceleration", DOUBLES, None, "Acceleration limit of each joint, rad/s^2 or m/s^2. Required."),
    Declaration(
        "limit_policy",
        STRING,
        "clamp",
        "Of a chunk that breaks a limit: clamp (follow it within the limits) or reject (hold).",
    ),
    Declaration(
        "max_jump_time",
        DOUBLE,
        0.5,
        "A chunk that starts further from the robot than max_velocity covers in this time is refused, s.",
        (0.0, 60.0),
    ),
    Declaration(
        "max_chunk_age", DOUBLE, 2.0, "No action is executed later than this after its observation, s.", (0.05, 3600.0)
    ),
    Declaration(
        "speed_scaling", DOUBLE, 1.0, "Factor of the speed of chunks and of max_velocity.", (0.01, 1.0), live=True
    ),
    Declaration("dry_run", BOOL, False, "Everything but the command: nothing is sent to the controllers.", live=True),
    Declaration("introspection", BOOL, False, "Offer ~/image_annotated and ~/predicted_trajectory to who subscribes."),
    Declaration(
        "marker_links",
        STRINGS,
        None,
        "Links whose paths ~/predicted_trajectory draws, by the URDF; empty: those behind the last joints.",
    ),
    Declaration("input_wait", DOUBLE, 10.0, "How long configure waits for every input, s.", (0.0, 600.0)),
    Declaration(
        "image_timeout",
        DOUBLE,
        0.5,
        "An image older than this is stale and the robot holds, s.",
        (0.01, 60.0),
        live=True,
    ),
    Declaration(
        "joint_state_timeout",
        DOUBLE,
        0.2,
        "Joint states older than this are stale and the robot holds, s.",
        (0.01, 60.0),
        live=True,
    ),
    Declaration(
        "instruction_timeout",
        DOUBLE,
        0.0,
        "An instruction older than this is stale and the robot holds, s; 0: it never is.",
        (0.0, 36000.0),
        live=True,
    ),
    Declaration(
        "heartbeat_timeout",
        DOUBLE,
        0.0,
        "Without a message on ~/heartbeat for so long the robot holds, s; 0: none is needed.",
        (0.0, 60.0),
        live=True,
    ),
    Declaration(
        "sync_tolerance",
        DOUBLE,
        0.1,
        "Largest distance between the stamps of images and joint states of an observation, s.",
        (0.001, 60.0),
        live=True,
    ),
)
LIVE = frozenset(declaration.name for declaration in DECLARATIONS if declaration.live)


def markdown_table() -> str:
    """Return the table of the parameters for the README."""
    lines = ["| parameter | type | default | range | live | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    for declaration in DECLARATIONS:
        default = "" if declaration.default in (None, "") else f"`{declaration.default}`"
        bounds = f"{declaration.bounds[0]:g} to {declaration.bounds[1]:g}" if declaration.bounds else ""
        live = "yes" if declaration.live else ""
        cells = (f"`{declaration.name}`", declaration.type, default, bounds, live, declaration.description)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
