"""A simulated bimanual ALOHA robot (gym-aloha's MuJoCo model) as ROS topics, for the demo and the tests.

Publishes `joint_states` and `camera_NAME/image_raw`; follows `joint_trajectory_controller/joint_trajectory` as a joint
trajectory controller does. Arm joints in rad, grippers from 0 (closed) to 1 (open). Runs in real time, or slower, for a
policy that a simulated card computes: then its time is published on `/clock`, for nodes with `use_sim_time`.
"""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from pathlib import Path
from typing import Any

# Read by mujoco when it is imported: render without a screen.
os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage

from pi0_ttnn_ros.conversions import time_message
from pi0_ttnn_ros.message_decoding import nanoseconds
from pi0_ttnn_ros.run_node import run_node
from pi0_ttnn_ros.trajectory_interpolation import (
    JointTrajectory,
    TrajectoryError,
    TrajectoryFollower,
    check_joint_names,
)

ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
JOINT_NAMES = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in (*ARM_JOINTS, "gripper"))
START_POSE = np.array(2 * [0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.1])
START_BOX = (0.1, 0.5, 0.05)  # m, on the table between the arms

# The finger's travel in m, closed and open (openpi policies/aloha_policy.py; gym_aloha constants.py).
FINGER_CLOSED, FINGER_OPEN = 0.01844, 0.05800

JOINT_STATE_RATE = 50.0  # Hz


class AlohaSimulation:
    """Physics and cameras. Positions are [14] in the order of JOINT_NAMES."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("gym_aloha")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit("gym-aloha is not installed: pip install 'gym-aloha==0.1.5'")
        assets = Path(spec.submodule_search_locations[0]) / "assets"
        self.model = mujoco.MjModel.from_xml_path(str(assets / "bimanual_viperx_transfer_cube.xml"))
        # In software, multisampling doubles the time of an image, shadows make it five times as long.
        self.model.vis.quality.offsamples = 0
        self.data = mujoco.MjData(self.model)
        self.data.ctrl[:] = self.data.qpos[:16] = _to_mujoco(START_POSE)
        self.data.qpos[16:19] = START_BOX
        mujoco.mj_forward(self.model, self.data)

    def step(self, desired: np.ndarray, seconds: float) -> None:
        """Move the physics on while the motors follow `desired`."""
        self.data.ctrl[:] = _to_mujoco(desired)
        mujoco.mj_step(self.model, self.data, round(seconds / self.model.opt.timestep))

    def joint_state(self) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and velocities."""
        qpos, qvel = self.data.qpos[:16].reshape(2, 8), self.data.qvel[:16].reshape(2, 8)
        travel = FINGER_OPEN - FINGER_CLOSED
        positions = np.column_stack([qpos[:, :6], (qpos[:, 6] - FINGER_CLOSED) / travel])
        velocities = np.column_stack([qvel[:, :6], qvel[:, 6] / travel])
        return positions.ravel(), velocities.ravel()


def _to_mujoco(positions: np.ndarray) -> np.ndarray:
    """Return MuJoCo's 16 joints: each gripper is two fingers that mirror each other."""
    arms = positions.reshape(2, 7)
    finger = FINGER_CLOSED + arms[:, 6:] * (FINGER_OPEN - FINGER_CLOSED)
    return np.hstack([arms[:, :6], finger, -finger]).ravel()


class SimRobot(Node):
    """Topics around the simulation: physics in one thread, cameras in another, commands in the executor's."""

    def __init__(self) -> None:
        super().__init__("sim_robot")
        self._declare_parameters()
        self._simulation = AlohaSimulation()
        self._lock = threading.Lock()
        self._factor = self._value("real_time_factor")
        self._start = self._wall_time()
        self._clock_publisher = self.create_publisher(Clock, "/clock", 1) if self._factor < 1.0 else None
        self._stamp = self._now()
        self._follower = TrajectoryFollower(START_POSE)
        self._stopping = threading.Event()
        self._joint_states = self.create_publisher(JointState, "joint_states", qos_profile_sensor_data)
        self._cameras = {
            name: self.create_publisher(Image, f"camera_{name}/image_raw", qos_profile_sensor_data)
            for name in self._value("cameras")
        }
        self.create_subscription(
            JointTrajectoryMessage, "joint_trajectory_controller/joint_trajectory", self._follow, 10
        )
        self._threads = [
            threading.Thread(target=self._run_physics, name="physics"),
            threading.Thread(target=self._run_cameras, name="cameras"),
        ]
        for thread in self._threads:
            thread.start()
        self.get_logger().info("the simulated robot is ready")

    def stop(self) -> None:
        """Return when both threads have ended."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _declare_parameters(self) -> None:
        def declare(name: str, default: object, description: str, **bounds: object) -> None:
            self.declare_parameter(
                name, default, ParameterDescriptor(description=description, read_only=True, **bounds)
            )

        pixels = [IntegerRange(from_value=16, to_value=640)]
        declare("cameras", ["top", "left_wrist", "right_wrist"], "Cameras of the MuJoCo model to publish.")
        declare("image_width", 320, "Pixels.", integer_range=pixels)
        declare("image_height", 240, "Pixels.", integer_range=pixels)
        rates = [FloatingPointRange(from_value=0.1, to_value=60.0)]
        declare("camera_rate", 15.0, "Images per second of each camera, Hz.", floating_point_range=rates)
        factors = [FloatingPointRange(from_value=0.001, to_value=1.0)]
        declare("real_time_factor", 1.0, "Robot's seconds per second; below 1 on /clock.", floating_point_range=factors)

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _wall_time(self) -> int:
        return self.get_clock().now().nanoseconds

    def _now(self) -> int:
        """Return the robot's time, nanoseconds."""
        return self._start + round((self._wall_time() - self._start) * self._factor)

    def _follow(self, message: JointTrajectoryMessage) -> None:
        now = self._now()
        try:
            trajectory = trajectory_from_message(message, now)
            with self._lock:
                self._follower.replace(trajectory, now)
        except TrajectoryError as error:
            self.get_logger().error(f"trajectory refused: {error}")

    def _run_physics(self) -> None:
        period = 1.0 / JOINT_STATE_RATE
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due += period / self._factor
            if time.monotonic() - due > 1.0:
                self.get_logger().warning("the simulation is slower than real time", throttle_duration_sec=5.0)
                due = time.monotonic()
            now = self._now()
            if self._clock_publisher is not None:
                self._clock_publisher.publish(Clock(clock=time_message(now)))
            with self._lock:
                desired, _ = self._follower.sample(now)
                self._simulation.step(desired, period)
                positions, velocities = self._simulation.joint_state()
                self._stamp = now
            message = JointState(name=JOINT_NAMES, position=positions.tolist(), velocity=velocities.tolist())
            message.header.stamp = time_message(now)
            self._joint_states.publish(message)

    def _run_cameras(self) -> None:
        """Render in a thread of its own: an OpenGL context belongs to one thread."""
        model = self._simulation.model
        data = mujoco.MjData(model)
        renderer = mujoco.Renderer(model, self._value("image_height"), self._value("image_width"))
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        period = 1.0 / self._value("camera_rate") / self._factor
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + period, time.monotonic())
            with self._lock:
                data.qpos[:] = self._simulation.data.qpos
                stamp = self._stamp
            mujoco.mj_kinematics(model, data)
            mujoco.mj_camlight(model, data)
            for name, publisher in self._cameras.items():
                renderer.update_scene(data, name)
                publisher.publish(_image_message(renderer.render(), stamp, f"camera_{name}"))
        renderer.close()


def _image_message(pixels: np.ndarray, stamp: int, frame_id: str) -> Image:
    height, width, _ = pixels.shape
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp = time_message(stamp)
    message.header.frame_id = frame_id
    message.data.frombytes(pixels.data)
    return message


def trajectory_from_message(message: JointTrajectoryMessage, now: int) -> JointTrajectory:
    """Return the trajectory with its joints in the order of JOINT_NAMES; a zero stamp means now.

    Raises:
        TrajectoryError: names or sizes do not fit.
    """
    check_joint_names(message.joint_names, JOINT_NAMES)
    order = [list(message.joint_names).index(name) for name in JOINT_NAMES]
    points = message.points
    for index, point in enumerate(points):
        sizes = {len(point.positions), len(point.velocities) or len(JOINT_NAMES)}
        if sizes != {len(JOINT_NAMES)} or bool(point.velocities) != bool(points[0].velocities):
            raise TrajectoryError(
                f"point {index} has {len(point.positions)} positions, {len(point.velocities)} velocities"
            )
    velocities = np.array([point.velocities for point in points]) if points and points[0].velocities else None
    times = [point.time_from_start.sec * 10**9 + point.time_from_start.nanosec for point in points]
    return JointTrajectory(
        start=nanoseconds(message.header.stamp) or now,
        times=np.array(times, np.int64),
        positions=np.array([point.positions for point in points]).reshape(-1, len(JOINT_NAMES))[:, order],
        velocities=None if velocities is None else velocities[:, order],
    )


def main() -> None:
    """Run the robot until SIGINT or SIGTERM."""
    run_node(SimRobot, SimRobot.stop)


if __name__ == "__main__":
    main()
