"""A simulated bimanual ALOHA robot (gym-aloha's MuJoCo model) with ROS topics, for the demo and the tests.

Publishes `joint_states` and `camera_NAME/image_raw`, and follows `joint_trajectory_controller/joint_trajectory` as a
joint_trajectory_controller does. Arm joints in rad, grippers from 0 (closed) to 1 (open). Runs in real time, or slower
for a policy on a simulated card; its time is then published on `/clock`, for nodes with `use_sim_time`.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from pi0_ttnn_ros.aloha.joints import JOINT_NAMES, START_POSE
from pi0_ttnn_ros.aloha.trajectory_follower import TrajectoryError, TrajectoryFollower, trajectory_from_message
from pi0_ttnn_ros.rclpy_utils.messages import time_message
from pi0_ttnn_ros.rclpy_utils.run_node import run_node

JOINT_STATE_RATE = 50.0  # Hz


class SimRobot(Node):
    """Topics around the simulation: physics in one thread, cameras in another, commands in the executor's."""

    def __init__(self) -> None:
        """Start the simulation."""
        super().__init__("sim_robot")
        self._declare_parameters()
        try:
            from pi0_ttnn_ros.aloha.simulation import AlohaCameras, AlohaSimulation

            self._simulation = AlohaSimulation()
        except ImportError as error:
            sys.exit(f"sim_robot: {error}")
        size = self._value("image_width"), self._value("image_height")
        self._make_cameras = partial(AlohaCameras, self._simulation.model, *size)
        self._lock = threading.Lock()
        self._factor = self._value("real_time_factor")
        self._start_ns = self._wall_time_ns()
        self._clock_publisher = self.create_publisher(Clock, "/clock", 1) if self._factor < 1.0 else None
        self._stamp_ns = self._now_ns()
        self._follower = TrajectoryFollower(START_POSE)
        self._stopping = threading.Event()
        self._joint_states = self.create_publisher(JointState, "joint_states", qos_profile_sensor_data)
        self._cameras = {
            name: self.create_publisher(Image, f"camera_{name}/image_raw", qos_profile_sensor_data)
            for name in self._value("cameras")
        }
        self.create_subscription(JointTrajectory, "joint_trajectory_controller/joint_trajectory", self._follow, 10)
        self._threads = [
            threading.Thread(target=self._run_thread, args=(self._run_physics,), name="physics"),
            threading.Thread(target=self._run_thread, args=(self._run_cameras,), name="cameras"),
        ]
        for thread in self._threads:
            thread.start()
        self.get_logger().info("the simulated robot is ready")

    def stop(self) -> None:
        """End both threads."""
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
        declare("image_width", 320, "Width of the images, pixels.", integer_range=pixels)
        declare("image_height", 240, "Height of the images, pixels.", integer_range=pixels)
        rates = [FloatingPointRange(from_value=0.1, to_value=60.0)]
        declare("camera_rate", 15.0, "Rate of each camera, Hz.", floating_point_range=rates)
        factors = [FloatingPointRange(from_value=0.001, to_value=1.0)]
        factor = "Simulated seconds per second; if below 1, the simulated time is published on /clock."
        declare("real_time_factor", 1.0, factor, floating_point_range=factors)

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _wall_time_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _now_ns(self) -> int:
        """Return the robot's time, nanoseconds."""
        return self._start_ns + round((self._wall_time_ns() - self._start_ns) * self._factor)

    def _follow(self, message: JointTrajectory) -> None:
        now_ns = self._now_ns()
        try:
            waypoints = trajectory_from_message(message, JOINT_NAMES, now_ns)
            with self._lock:
                self._follower.replace(waypoints, now_ns)
        except TrajectoryError as error:
            self.get_logger().error(f"trajectory refused: {error}")

    def _run_thread(self, run: Callable[[], None]) -> None:
        """End the node if one of its threads fails: without physics or cameras there is no robot."""
        try:
            run()
        except Exception:
            self.get_logger().fatal(traceback.format_exc())
            signal.raise_signal(signal.SIGTERM)

    def _run_physics(self) -> None:
        period = 1.0 / JOINT_STATE_RATE
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due += period / self._factor
            if time.monotonic() - due > 1.0:
                self.get_logger().warning("the simulation is slower than real time", throttle_duration_sec=5.0)
                due = time.monotonic()
            now_ns = self._now_ns()
            if self._clock_publisher is not None:
                self._clock_publisher.publish(Clock(clock=time_message(now_ns)))
            with self._lock:
                desired, _ = self._follower.sample(now_ns)
                self._simulation.step(desired, period)
                positions, velocities = self._simulation.joint_state()
                self._stamp_ns = now_ns
            message = JointState(name=JOINT_NAMES, position=positions.tolist(), velocity=velocities.tolist())
            message.header.stamp = time_message(now_ns)
            self._joint_states.publish(message)

    def _run_cameras(self) -> None:
        cameras = self._make_cameras()  # in the thread that uses them
        period = 1.0 / self._value("camera_rate") / self._factor
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + period, time.monotonic())
            with self._lock:
                qpos = self._simulation.data.qpos.copy()
                stamp_ns = self._stamp_ns
            cameras.move(qpos)
            for name, publisher in self._cameras.items():
                publisher.publish(_image_message(cameras.image(name), stamp_ns, f"camera_{name}"))
        cameras.close()


def _image_message(pixels: np.ndarray, stamp_ns: int, frame_id: str) -> Image:
    height, width, _ = pixels.shape
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp = time_message(stamp_ns)
    message.header.frame_id = frame_id
    message.data.frombytes(pixels.data)
    return message


def main() -> None:
    """Run the robot until SIGINT or SIGTERM."""
    run_node(lambda stopping: SimRobot(), SimRobot.stop)


if __name__ == "__main__":
    main()
