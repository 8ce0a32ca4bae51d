"""Every parameter of the policy node, declared once, and the dataclasses that hold the values at configure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pi0_ttnn_core.processing.robot import Robot
from pi0_ttnn_ros.execution.chunk_executor import STRATEGIES
from pi0_ttnn_ros.execution.safety import CONTINUOUS, LIMIT_POLICIES
from pi0_ttnn_ros.observation.buffer import HEARTBEAT, INSTRUCTION, JOINT_STATES
from pi0_ttnn_ros.parameters.declarations import Declaration, ParameterError, declarations, parameter

# Name of the topic or action that ros2_control's controllers of each type have.
CONTROLLER_TOPICS = {
    "joint_trajectory": "joint_trajectory",
    "follow_joint_trajectory": "follow_joint_trajectory",
    "position": "commands",
    "gripper_command": "gripper_cmd",
    "parallel_gripper_command": "gripper_cmd",
}
RESTARTS = ("automatic", "manual")


@dataclass(frozen=True)
class CameraParameters:
    """The section `<camera>`."""

    topic: str = parameter(
        "",
        "Image topic of the camera: sensor_msgs/CompressedImage if it ends in /compressed, otherwise "
        "sensor_msgs/Image. Required.",
    )


@dataclass(frozen=True)
class ControllerParameters:
    """The section `<controller>`."""

    type: str = parameter(
        "joint_trajectory",
        "Type of the controller: joint_trajectory (JointTrajectory), follow_joint_trajectory (FollowJointTrajectory), "
        "position (Float64MultiArray), gripper_command (GripperCommand) or parallel_gripper_command "
        "(ParallelGripperCommand).",
        choices=tuple(CONTROLLER_TOPICS),
    )
    topic: str = parameter(
        "",
        "Topic of the controller, or name of its action. If empty, that of the ros2_control controller of this name, "
        "such as <controller>/joint_trajectory.",
    )
    joints: list[str] = parameter(
        [],
        "Joints of the controller, in its order. If empty, all joints, which only a single controller can have.",
    )


@dataclass(frozen=True)
class JointLimitParameters:
    """The section `joint_limits.<joint>`."""

    min_position: float | None = parameter(
        None,
        "Lower position limit, rad or m. If not set, that of the URDF; -1e6 for a joint that turns without end.",
        bounds=(-CONTINUOUS, CONTINUOUS),
    )
    max_position: float | None = parameter(
        None,
        "Upper position limit, rad or m. If not set, that of the URDF; 1e6 for a joint that turns without end.",
        bounds=(-CONTINUOUS, CONTINUOUS),
    )
    max_velocity: float | None = parameter(
        None, "Velocity limit, rad/s or m/s, above 0. If not set, that of the URDF.", bounds=(0.0, 1e6)
    )
    max_acceleration: float | None = parameter(
        None,
        "Acceleration limit, rad/s^2 or m/s^2, above 0. Required, because a URDF does not have it.",
        bounds=(0.0, 1e6),
    )
    max_tracking_error: float | None = parameter(
        None,
        "Largest distance from where the joint was commanded to be within the last 0.3 s, rad or m; the robot holds if "
        "it is larger. If not set, what max_velocity covers in max_tracking_time; none for a gripper.",
        bounds=(0.0, 1e6),
    )


@dataclass(frozen=True)
class Parameters:
    """The values at configure, checked against each other. A field that is a parameter carries its description.

    Attributes:
        joint_limits: limits of each joint, in the order of `joint_names`.
        robot: what cameras, joints and transforms mean to the policy.
    """

    joint_limits: dict[str, JointLimitParameters]
    robot: Robot

    checkpoint: str = parameter("", "Folder of the checkpoint. Required.", group="Policy")
    backend: str = parameter("torch", "What runs the model: torch (CPU) or ttnn (Wormhole).")
    dtype: str = parameter("float32", "Type of weights and activations on the torch backend: float32 or bfloat16.")
    precision: str = parameter(
        "default", "Preset of dtypes and math fidelity on the ttnn backend: accuracy, default or fast."
    )
    num_steps: int = parameter(0, "Euler steps of the flow; 0 takes the checkpoint's number.", bounds=(0, 100))
    seed: int = parameter(
        0,
        "Seed of the flow noise. The noise is a function of this seed and the observation's stamp.",
        bounds=(0, 2**31 - 1),
    )
    instruction: str = parameter("", "Instruction at the start. If empty, the node waits for one on ~/instruction.")
    conventions: str = parameter(
        "",
        "Whose prompt format and normalization apply: lerobot or openpi. If empty, those of the checkpoint's layout.",
    )
    normalization_key: str = parameter(
        "", "Asset id of the statistics, for an openpi checkpoint that has several of them."
    )
    tokenizer: str = parameter("", "PaliGemma's tokenizer file. If empty, the one in the checkpoint's folder.")
    device_id: str = parameter(
        "",
        "Which of several cards the ttnn backend uses: its PCI address, such as '0000:02:00.0', or its number, such as "
        "'1', which a reset may change. If empty, the first.",
    )
    device_reset_command: str = parameter(
        "",
        "Command that resets the card, such as 'tt-smi -r 0'. It is run when the policy process was lost twice without "
        "a chunk in between. If empty, none.",
    )
    load_timeout: float = parameter(900.0, "Seconds that loading the policy may take.", bounds=(1.0, 36000.0))

    inference_rate: float = parameter(
        10.0, "Maximum number of inferences per second, Hz.", bounds=(0.1, 100.0), live=True, group="Inference"
    )
    inference_timeout: float = parameter(
        5.0,
        "Seconds after which an inference counts as hung: the robot holds and the policy process is restarted.",
        bounds=(0.05, 3600.0),
        live=True,
    )
    strategy: str = parameter(
        "asynchronous",
        "How consecutive chunks are combined: synchronous, asynchronous, blended or rtc.",
        choices=STRATEGIES,
    )
    execution_horizon: int = parameter(
        0,
        "Number of a chunk's actions that the synchronous strategy executes before the next inference; 0 for all.",
        bounds=(0, 1000),
    )
    temporal_ensemble_coeff: float = parameter(
        0.01, "The blended strategy weights the n-th oldest chunk by exp(-coefficient * n).", bounds=(-10.0, 10.0)
    )

    start_enabled: bool = parameter(
        False,
        "Whether activation starts the motion. If false, the node is disabled at each activation, until ~/enable.",
        group="Start and stop",
    )
    restart: str = parameter(
        "automatic",
        "After a hold: automatic resumes once its cause is gone; manual waits for ~/reset, except after a gap of the "
        "inputs that is shorter than a second.",
        choices=RESTARTS,
    )
    state_folder: str = parameter(
        "",
        "Folder in which ~/stop and ~/emergency_stop are kept until ~/reset, over a restart of the node; if empty, "
        "they are not kept.",
    )

    time_step: float = parameter(
        0.02, "Seconds between two actions, as in the training data.", bounds=(0.001, 1.0), group="Robot"
    )
    cameras: dict[str, CameraParameters] = parameter(
        [],
        "The checkpoint's names of the cameras that this robot has. Each of them has a section of its name. Required.",
    )
    joint_state_topic: str = parameter("joint_states", "Topic of the measured joint states.")
    joint_names: list[str] = parameter(
        [], "Joints, in the order of the checkpoint's state and actions. Each has a section in joint_limits. Required."
    )
    allow_wider_limits: bool = parameter(
        False, "Accept joint_limits that are wider than those of the URDF on robot_description."
    )
    controllers: dict[str, ControllerParameters] = parameter(
        ["joint_trajectory_controller"],
        "Controllers of the robot. Each of them has a section of its name, and every joint has exactly one of them.",
    )
    stamp_trajectories: bool = parameter(
        True,
        "Whether trajectories carry the time at which they start. Set it to false for a controller whose clock "
        "differs: they then start on arrival, and the motion is less smooth.",
    )
    gripper_max_effort: float = parameter(20.0, "Maximum effort in the goals of gripper actions, N.", bounds=(0, 1000))

    transforms: list[str] = parameter(
        [],
        "Transforms from the robot's units to the checkpoint's, in this order: degrees, joint_signs, gripper_range, "
        "aloha or relative_actions.",
        group="Transforms",
    )
    degrees_joints: list[str] = parameter(
        [], "Joints that are in rad on the robot and in degrees in the checkpoint's data.", name="degrees.joints"
    )
    joint_signs_joints: list[str] = parameter(
        [], "Joints whose positive direction is the opposite in the checkpoint's data.", name="joint_signs.joints"
    )
    gripper_range_joints: list[str] = parameter(
        [], "Grippers whose range differs in the checkpoint's data.", name="gripper_range.joints"
    )
    gripper_range_robot: list[float] = parameter(
        [], "[closed, open] position of these grippers on the robot, rad or m.", name="gripper_range.robot"
    )
    gripper_range_model: list[float] = parameter(
        [], "[closed, open] position of these grippers in the checkpoint's data.", name="gripper_range.model"
    )
    relative_actions_joints: list[str] = parameter(
        [],
        "Joints whose actions are offsets from the state, for a checkpoint that does not say so itself (openpi).",
        name="relative_actions.joints",
    )

    command_rate: float = parameter(50.0, "Plans per second, Hz.", bounds=(5.0, 500.0), group="Motion")
    limit_policy: str = parameter(
        "clamp",
        "What to do with a chunk that exceeds a limit: clamp it to the limits, or reject it and hold.",
        choices=LIMIT_POLICIES,
    )
    max_jump_time: float = parameter(
        0.5,
        "A chunk is refused if it starts farther from the robot than max_velocity covers in this time, s.",
        bounds=(0.0, 60.0),
    )
    max_tracking_time: float = parameter(
        0.2,
        "The robot holds if a joint is farther from where it was commanded to be than max_velocity covers in this "
        "time, s; 0 if no joint is judged. Not for grippers: joints of gripper_range or of a gripper's action.",
        bounds=(0.0, 60.0),
        live=True,
    )
    max_chunk_age: float = parameter(
        2.0, "Seconds after its observation during which a chunk's actions may be executed.", bounds=(0.05, 3600.0)
    )
    speed_scaling: float = parameter(
        1.0, "Factor on the speed of chunks and on max_velocity.", bounds=(0.01, 1.0), live=True
    )
    dry_run: bool = parameter(False, "Do everything except send commands to the controllers.", live=True)

    input_wait: float = parameter(
        10.0, "Seconds that configure waits for a message of every input.", bounds=(0.0, 600.0), group="Inputs"
    )
    image_timeout: float = parameter(
        0.5, "Age at which an image is stale and the robot holds, s.", bounds=(0.01, 60.0), live=True
    )
    joint_state_timeout: float = parameter(
        0.2, "Age at which joint states are stale and the robot holds, s.", bounds=(0.01, 60.0), live=True
    )
    instruction_timeout: float = parameter(
        0.0, "Age at which an instruction is stale and the robot holds, s; 0 for never.", bounds=(0, 36000), live=True
    )
    heartbeat_timeout: float = parameter(
        0.0,
        "Seconds without a message on ~/heartbeat after which the robot holds; 0 if no heartbeat is needed.",
        bounds=(0.0, 60.0),
        live=True,
    )
    sync_tolerance: float = parameter(
        0.1,
        "Largest difference between the stamps of the images and joint states of an observation, s.",
        bounds=(0.001, 60.0),
        live=True,
    )

    repeated_input_timeout: float = parameter(
        1.0,
        "Seconds for which a camera or the joint states may repeat themselves, but for the stamp, while a motion is "
        "commanded; 0 if they may.",
        bounds=(0.0, 5.0),
        live=True,
    )

    introspection: bool = parameter(
        False,
        "Publish ~/image_annotated and ~/predicted_trajectory while they have subscribers.",
        group="Visualization",
    )
    marker_links: list[str] = parameter(
        [],
        "Links of the URDF whose paths ~/predicted_trajectory shows. If empty, the links that follow the last joints.",
    )

    def by_full_name(self) -> dict[str, Any]:
        """Return every parameter that is not in a section, with the names of the sections."""
        values = {declaration.name: getattr(self, declaration.attribute) for declaration in DECLARATIONS}
        return {name: list(value) if isinstance(value, dict) else value for name, value in values.items()}

    @property
    def input_timeouts(self) -> dict[str, float]:
        """The timeout of each input by its name, as `ObservationBuffer` takes them, in seconds."""
        timeouts = dict.fromkeys(self.cameras, self.image_timeout) | {JOINT_STATES: self.joint_state_timeout}
        optional = {INSTRUCTION: self.instruction_timeout, HEARTBEAT: self.heartbeat_timeout}
        return timeouts | {name: timeout for name, timeout in optional.items() if timeout > 0}

    @property
    def grippers(self) -> set[str]:
        """Joints that are grippers, as far as controllers and transforms say so."""
        actions = [each for each in self.controllers.values() if each.type.endswith("gripper_command")]
        return {*self.gripper_range_joints, *(joint for each in actions for joint in each.joints)}


@dataclass(frozen=True)
class Sections:
    """The sections of all names in a list.

    Attributes:
        names: the parameter that lists the names.
        prefix: what precedes a name in the full names of its parameters.
        content: dataclass that declares the parameters of one section.
        attribute: field of `Parameters` that holds the sections by name.
    """

    names: str
    prefix: str
    content: type
    attribute: str

    def declarations(self, name: str) -> Iterator[Declaration]:
        """Yield the parameters in the section of `name`."""
        return declarations(self.content, f"{self.prefix}{name}.")

    def section(self, name: str, values: Mapping[str, Any]) -> Any:
        """Return the section of `name`, from values by full name."""
        return self.content(**{each.attribute: values[each.name] for each in self.declarations(name)})


SECTIONS = (
    Sections("cameras", "", CameraParameters, "cameras"),
    Sections("joint_names", "joint_limits.", JointLimitParameters, "joint_limits"),
    Sections("controllers", "", ControllerParameters, "controllers"),
)
DECLARATIONS = tuple(declarations(Parameters))
LIVE = frozenset(declaration.name for declaration in DECLARATIONS if declaration.live)
# A section of one of these names would mix with other parameters, of this node, of rclpy or of replay.
RESERVED = {declaration.name.partition(".")[0] for declaration in DECLARATIONS} | {
    *("joint_limits", "replay", "use_sim_time", "qos_overrides", "start_type_description_service")
}


def all_declarations(names: Mapping[str, Sequence[str]]) -> Iterator[Declaration]:
    """Yield every parameter of a robot with these lists of `Sections.names`. Sections follow their list."""
    sections = {each.names: each for each in SECTIONS}
    for declaration in DECLARATIONS:
        yield declaration
        if declaration.name in sections:
            for name in names[declaration.name]:
                yield from sections[declaration.name].declarations(name)


def check_names(names: Mapping[str, Sequence[str]]) -> None:
    """Check that no section would mix with another one or with another parameter.

    Raises:
        ParameterError: a name appears twice, or belongs to another parameter.
    """
    for option, values in names.items():
        doubled = sorted({name for name in values if list(values).count(name) > 1})
        if doubled:
            raise ParameterError(f"{option} names {doubled} more than once")
    for option in ("cameras", "controllers"):
        taken = sorted(name for name in names[option] if name.partition(".")[0] in RESERVED)
        if taken:
            raise ParameterError(f"{option} names {taken}, which is the name of another parameter: choose another name")
    both = sorted(set(names["cameras"]) & set(names["controllers"]))
    if both:
        raise ParameterError(f"cameras and controllers both name {both}: each needs a section of its own")
