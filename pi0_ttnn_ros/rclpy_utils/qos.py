"""QoS profiles that several nodes use."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

# A late subscriber receives the last message, as with `robot_description`.
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# As the sensor data profile, but only the newest message counts: a queued image would be decoded for nothing.
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# Requests that arrive faster than they are answered wait instead of being dropped.
REQUESTS = QoSProfile(depth=1000)
