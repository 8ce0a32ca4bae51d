"""What several nodes need of rclpy: messages, QoS, parameters, lifecycle, clock, logs, spinning."""
