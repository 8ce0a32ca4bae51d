"""A robot's YAML as it was before cameras, controllers and limits were written by name, and the same by name."""

from __future__ import annotations

FORMER_YAML = """
/**/pi0_policy:
  ros__parameters:
    checkpoint: anywhere
    cameras: [base_0_rgb]
    camera_topics: [camera/image]
    joint_names: [shoulder, elbow, jaw]
    controller_topics: [arm_controller/joint_trajectory, /hand/gripper_cmd]
    controller_types: [joint_trajectory, gripper_command]
    controller_of_joint: [0, 0, 1]
    position_min: [-1.0, -2.0, 0.0]
    position_max: [1.0, 2.0, 0.04]
    max_acceleration: [5.0, 5.0, 1.0]
"""
BY_NAME = """
    cameras: [base_0_rgb]
    base_0_rgb: {topic: camera/image}
    controllers: [arm_controller, hand]
    arm_controller:
      type: joint_trajectory
      topic: arm_controller/joint_trajectory
      joints: [shoulder, elbow]
    hand:
      type: gripper_command
      topic: /hand/gripper_cmd
      joints: [jaw]
    joint_limits:
      shoulder: {min_position: -1.0, max_position: 1.0, max_acceleration: 5.0}
      elbow: {min_position: -2.0, max_position: 2.0, max_acceleration: 5.0}
      jaw: {min_position: 0.0, max_position: 0.04, max_acceleration: 1.0}
"""
