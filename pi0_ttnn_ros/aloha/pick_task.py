"""A scripted task for the simulated ALOHA robot: the right arm picks the cube up from the table.

Joints as in `joints`. The cube lies straight in front of the right arm, so three joints suffice, moving in one plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi0_ttnn_ros.aloha.joints import JOINT_NAMES, START_BOX, START_POSE

INSTRUCTION = "pick up the red cube"

# Geometry in m, from gym-aloha's model of the ViperX 300s (vx300s_right.xml).
BASE = np.array([0.469, 0.5, 0.0])
SHOULDER_HEIGHT = 0.12705
UPPER_ARM = np.array([0.05955, 0.3])  # forward and up when the shoulder is at 0
FOREARM = 0.3
HAND = 0.21  # wrist to between the fingers


@dataclass(frozen=True)
class Waypoint:
    """Where the right hand is at one moment of the task.

    Attributes:
        share: of the task's duration, 0 to 1.
        height: m above the table.
        opening: of the gripper, 0 to 1.
    """

    share: float
    height: float
    opening: float


PITCH = 1.0  # of the hand, downwards, rad
WAYPOINTS = (
    Waypoint(0.35, 0.15, 1.0),  # above the cube
    Waypoint(0.55, 0.02, 1.0),
    Waypoint(0.65, 0.02, 0.0),
    Waypoint(0.90, 0.20, 0.0),
)
WAIT = 0.1  # share of the task's duration that the arms rest at the start


def arm_joints(reach: float, height: float, pitch: float) -> np.ndarray:
    """Return shoulder, elbow and wrist angle [3] that put the hand `reach` m in front of the arm's base, elbow up.

    Two links in a plane: the law of cosines.

    Raises:
        ValueError: the arm cannot stretch or fold that far.
    """
    wrist = np.array([reach - HAND * np.cos(pitch), height + HAND * np.sin(pitch) - SHOULDER_HEIGHT])
    distance, upper = np.hypot(*wrist), np.hypot(*UPPER_ARM)
    if not abs(upper - FOREARM) < distance < upper + FOREARM:
        raise ValueError(f"the hand cannot reach {reach:.3f} m, {height:.3f} m")
    direction = np.arctan2(wrist[1], wrist[0])
    at_shoulder = np.arccos((upper**2 + distance**2 - FOREARM**2) / (2 * upper * distance))
    at_wrist = np.arccos((FOREARM**2 + distance**2 - upper**2) / (2 * FOREARM * distance))
    shoulder = np.arctan2(UPPER_ARM[1], UPPER_ARM[0]) - direction - at_shoulder
    forearm_pitch = at_wrist - direction
    return np.array([shoulder, forearm_pitch - shoulder, pitch - forearm_pitch])


def commanded_positions(time: float, duration: float) -> np.ndarray:
    """Return the positions [14] commanded at `time` seconds of a task that takes `duration` seconds."""
    poses = [START_POSE, START_POSE, *(_pose(waypoint) for waypoint in WAYPOINTS)]
    times = duration * np.array([0.0, WAIT, *(waypoint.share for waypoint in WAYPOINTS)])
    segment = int(np.searchsorted(times, time, side="right")) - 1
    if segment >= len(poses) - 1:
        return poses[-1]
    fraction = (time - times[segment]) / (times[segment + 1] - times[segment])
    # The minimum-jerk polynomial from rest to rest.
    progress = fraction**3 * (10.0 + fraction * (6.0 * fraction - 15.0))
    return poses[segment] + progress * (poses[segment + 1] - poses[segment])


def _pose(waypoint: Waypoint) -> np.ndarray:
    shoulder, elbow, wrist_angle = arm_joints(BASE[0] - START_BOX[0], waypoint.height, PITCH)
    pose = START_POSE.copy()
    right = dict(shoulder=shoulder, elbow=elbow, wrist_angle=wrist_angle, gripper=waypoint.opening)
    for joint, position in right.items():
        pose[JOINT_NAMES.index(f"right_{joint}")] = position
    return pose
