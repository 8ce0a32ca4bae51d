"""Why tests are skipped, and how to run them."""

from __future__ import annotations

OVERLAY = "ROS packages that are not among the wheels: set PI0_ROS_OVERLAY, see docs/installation.md"
ROS2_CONTROL = "ros2_control and ros2_controllers, which are not among the wheels: see docs/installation.md"
