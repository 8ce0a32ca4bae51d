"""Why tests are skipped, and how to run them."""

from __future__ import annotations

OVERLAY = "ROS packages that are not among the wheels: set PI0_ROS_OVERLAY, see docs/installation.md"
