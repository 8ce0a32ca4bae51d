"""A rosbag through the policy, open loop or live."""
