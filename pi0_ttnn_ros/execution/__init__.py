"""Chunks to one limited motion. Without ROS."""
