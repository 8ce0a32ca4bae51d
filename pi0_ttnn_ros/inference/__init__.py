"""Observation to chunk, in a process of its own. Without ROS."""
