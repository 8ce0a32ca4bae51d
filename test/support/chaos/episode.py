"""What one policy node and its robot are: drawn from the seed, another one for each node process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from pi0_ttnn_core.checkpoints.random_checkpoint import CAMERAS
from support.chaos.checker import Limits
from support.fake_robot import (
    JOINTS,
    MAX_ACCELERATION,
    MAX_VELOCITY,
    POSITION_MAX,
    POSITION_MIN,
    good_parameters,
    named_sections_only,
)

IMAGE_TIMEOUT = 0.5  # seconds, as the other times
JOINT_STATE_TIMEOUT = 0.25
MAX_CHUNK_AGE = 1.0
INFERENCE_TIMEOUT = 2.0
MAX_TRACKING_TIME = 0.2
REPEATED_INPUT_TIMEOUT = 1.0
PERIOD = 0.02
LIMITS = Limits(POSITION_MIN, POSITION_MAX, MAX_VELOCITY, MAX_ACCELERATION, PERIOD)
COMPRESSED = CAMERAS[0]  # this camera's images are JPEG
# Type and joints of each controller, by its name.
CONTROLLERS = (
    {"left": ("joint_trajectory", JOINTS[:7]), "right": ("position", JOINTS[7:])},
    {"both": ("joint_trajectory", JOINTS)},
    {"both": ("position", JOINTS)},
)
STRATEGIES = ("asynchronous", "rtc", "blended", "synchronous")


@dataclass(frozen=True)
class Episode:
    """One node process and its robot.

    Attributes:
        number: counts the episodes of a run.
        simulated: whether the node follows /clock.
        controllers: one of CONTROLLERS.
        lag: time constant of the joints in s; 0 for a robot that obeys at once.
        droop: rad by which the joints rest below their command.
        strategy: how chunks follow each other.
        heartbeat_timeout: seconds.
        restart: "automatic" or "manual".
        faults: number of faults until the node ends.
    """

    number: int
    simulated: bool
    controllers: dict[str, tuple[str, list[str]]]
    lag: float
    droop: float
    strategy: str
    heartbeat_timeout: float
    restart: str
    faults: int

    @classmethod
    def draw(cls, seed: int, number: int) -> Episode:
        """Draw the episode. Kinds of controllers, clocks and robots take turns, so that a short run has them all."""
        random = Random(f"{seed}/episode/{number}")
        turn = seed + number
        lag = random.uniform(0.03, 0.1) if turn % 2 else 0.0
        return cls(
            number=number,
            simulated=turn % 3 == 1,
            controllers=CONTROLLERS[turn % 3],
            lag=lag,
            droop=random.uniform(0.0, 0.01) if lag else 0.0,
            strategy=STRATEGIES[turn % 4],
            heartbeat_timeout=random.uniform(0.5, 1.5),
            restart="manual" if turn % 4 == 3 else "automatic",
            faults=random.randint(10, 16),
        )

    @property
    def namespace(self) -> str:
        """The namespace of node and robot, which no other episode has."""
        return f"/chaos_{self.number}"

    def parameters(self, checkpoint: Path, inference_rate: float) -> dict:
        """Return the parameters of the node."""
        controllers = {name: {"type": kind, "joints": joints} for name, (kind, joints) in self.controllers.items()}
        changed = {
            COMPRESSED: {"topic": f"{COMPRESSED}/image/compressed"},
            "inference_rate": inference_rate,
            "inference_timeout": INFERENCE_TIMEOUT,
            "strategy": self.strategy,
            "execution_horizon": 25,
            "max_chunk_age": MAX_CHUNK_AGE,
            "max_jump_time": 2.0,  # the actions of random weights are far apart
            "sync_tolerance": 0.25,
            "image_timeout": IMAGE_TIMEOUT,
            "joint_state_timeout": JOINT_STATE_TIMEOUT,
            "heartbeat_timeout": self.heartbeat_timeout,
            "restart": self.restart,
            "max_tracking_time": MAX_TRACKING_TIME,
            "repeated_input_timeout": REPEATED_INPUT_TIMEOUT,
            "command_rate": 1.0 / PERIOD,
            "use_sim_time": self.simulated,
            "controllers": list(controllers),
            **controllers,
        }
        return named_sections_only(good_parameters(checkpoint) | changed)

    def __str__(self) -> str:
        """Return the episode in words."""
        kinds = ", ".join(f"{len(joints)} joints by {kind}" for kind, joints in self.controllers.values())
        robot = f"a lag of {self.lag * 1e3:.0f} ms" if self.lag else "a robot that obeys at once"
        clock = "simulated time" if self.simulated else "system's time"
        return (
            f"{kinds}; {robot}; {clock}; {self.strategy}; heartbeat within {self.heartbeat_timeout:.2f} s; "
            f"{self.restart} restart; {self.faults} faults"
        )
