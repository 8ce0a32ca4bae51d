"""Joints of the bimanual ALOHA robot and the start of its simulation: arm joints in rad, grippers from 0 to 1."""

from __future__ import annotations

import numpy as np

ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
JOINT_NAMES = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in (*ARM_JOINTS, "gripper"))
START_POSE = np.array(2 * [0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.1])
START_BOX = (0.1, 0.5, 0.05)  # m, on the table between the arms
