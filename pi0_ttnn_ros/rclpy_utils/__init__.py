"""What several nodes need of rclpy: messages, QoS, parameters, clock, spinning."""
