"""Read and write rosbag2 without ROS."""
