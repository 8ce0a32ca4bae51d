"""Record a sample bag: the simulated ALOHA robot picks up a cube, moved by a script.

Needs neither DDS nor real time: physics and cameras are stepped, and what a recorder would have received is written
with simulated times. The same arguments give the same bag. The robot's parameters for it are in `config/sample.yaml`.

Stamps are simulated times. Receive times follow them with delays typical of cameras, drivers and DDS.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pi0_ttnn_ros.aloha.joints import JOINT_NAMES, START_POSE
from pi0_ttnn_ros.aloha.pick_task import INSTRUCTION, commanded_positions
from pi0_ttnn_ros.aloha.trajectory_follower import TrajectoryFollower, Waypoints
from pi0_ttnn_ros.bags.storage import BagError
from pi0_ttnn_ros.bags.writer import (
    STORAGES,
    BagWriter,
    compressed_image,
    duration_message,
    header,
    joint_state,
    message,
    qos,
    serialized,
)

START_NS = 1_750_000_000 * 10**9
PERIOD_NS = 20_000_000  # joint states and commands at 50 Hz
CAMERA_PERIODS = 3  # between two images of a camera: 16.7 Hz
LEAD_PERIODS = 2  # between a command and the moment it is meant for
WIDTH, HEIGHT, JPEG_QUALITY = 320, 240, 90
MIN_DURATION_S = 4.0  # any faster, and the arm throws the cube

JOINT_STATES = "/joint_states"
TRAJECTORY = "/joint_trajectory_controller/joint_trajectory"
INSTRUCTION_TOPIC = "/pi0_policy/instruction"
# Camera of the MuJoCo model -> topic. The cameras are not triggered together.
CAMERAS = {name: f"/camera_{name}/image_raw/compressed" for name in ("top", "left_wrist", "right_wrist")}

TOPICS = {
    JOINT_STATES: ("sensor_msgs/msg/JointState", qos(5, reliable=False)),
    TRAJECTORY: ("trajectory_msgs/msg/JointTrajectory", qos(10)),
    INSTRUCTION_TOPIC: ("std_msgs/msg/String", qos(1, latched=True)),
    **{topic: ("sensor_msgs/msg/CompressedImage", qos(5, reliable=False)) for topic in CAMERAS.values()},
}
# Topic -> shortest and longest delay between a message's stamp and its receipt.
DELAYS_NS = {JOINT_STATES: (300_000, 1_500_000), TRAJECTORY: (200_000, 1_000_000), INSTRUCTION_TOPIC: (0, 1_000_000)}
IMAGE_DELAY_NS = (8_000_000, 25_000_000)


def record(path: Path, seconds: float, storage: str = "mcap") -> None:
    """Write the bag of a task that takes `seconds`.

    Raises:
        BagError: `path` exists, or the task cannot be done in that time.
        ImportError: a package of the simulation is missing.
    """
    if seconds < MIN_DURATION_S:
        raise BagError(f"{path}: the task takes at least {MIN_DURATION_S:g} s, not {seconds:g}")
    random = np.random.default_rng(0)
    received = []
    with BagWriter(path, TOPICS, storage) as bag:
        for stamp_ns, topic, content in _published(seconds):
            delay_ns = random.integers(*DELAYS_NS.get(topic, IMAGE_DELAY_NS))
            received.append((stamp_ns + int(delay_ns), topic, serialized(content)))
        for time_ns, topic, raw in sorted(received, key=lambda entry: entry[0]):
            bag.write(topic, time_ns, raw)


def _published(seconds: float) -> Iterator[tuple[int, str, Any]]:
    """Yield time, topic and message of everything that the robot and its operator publish."""
    # Imported here: the software renderer contains an LLVM, and a process that also loads torch's LLVM crashes.
    from pi0_ttnn_ros.aloha.simulation import AlohaCameras, AlohaSimulation

    simulation = AlohaSimulation()
    cameras = AlohaCameras(simulation.model, WIDTH, HEIGHT)
    follower = TrajectoryFollower(START_POSE)
    yield START_NS, INSTRUCTION_TOPIC, message("std_msgs/msg/String", data=INSTRUCTION)
    for tick in range(round(seconds * 1e9) // PERIOD_NS):
        now_ns = START_NS + tick * PERIOD_NS
        yield now_ns, JOINT_STATES, joint_state(now_ns, list(JOINT_NAMES), *simulation.joint_state())
        for phase, (camera, topic) in enumerate(CAMERAS.items()):
            if tick % CAMERA_PERIODS == phase:
                cameras.move(simulation.data.qpos)
                yield now_ns, topic, compressed_image(now_ns, _jpeg(cameras.image(camera)), f"camera_{camera}")
        target = commanded_positions((tick + LEAD_PERIODS) * PERIOD_NS * 1e-9, seconds)
        follower.replace(Waypoints(now_ns, np.array([LEAD_PERIODS * PERIOD_NS]), target[None], None), now_ns)
        yield now_ns, TRAJECTORY, _trajectory(now_ns, target)
        simulation.step(follower.sample(now_ns)[0], PERIOD_NS * 1e-9)
    cameras.close()


def _trajectory(stamp_ns: int, target: np.ndarray) -> Any:
    """Return the command to be at `target` [14] LEAD_PERIODS after `stamp_ns`, as teleoperation sends it."""
    point = message(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=target,
        velocities=np.zeros(0),
        accelerations=np.zeros(0),
        effort=np.zeros(0),
        time_from_start=duration_message(LEAD_PERIODS * PERIOD_NS),
    )
    return message(
        "trajectory_msgs/msg/JointTrajectory", header=header(stamp_ns), joint_names=list(JOINT_NAMES), points=[point]
    )


def _jpeg(pixels: np.ndarray) -> np.ndarray:
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]


def main() -> None:
    """Record the bag that the command line asks for."""
    parser = argparse.ArgumentParser(prog="scripts/make_sample_bag", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the bag; must not exist")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the task (default 10)")
    parser.add_argument("--storage", choices=STORAGES, default="mcap")
    arguments = parser.parse_args()
    try:
        record(arguments.out, arguments.seconds, arguments.storage)
    except (BagError, ImportError, OSError) as error:
        print(f"make_sample_bag: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"wrote {arguments.seconds:g} s of the task {INSTRUCTION!r} to {arguments.out}")


if __name__ == "__main__":
    main()
