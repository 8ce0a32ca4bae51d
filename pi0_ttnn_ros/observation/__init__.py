"""The newest inputs to one observation. Without rclpy."""
