"""What the robot's YAML says: declarations, checked values, topic names, joint limits. Without rclpy."""
