"""From a replayed episode to a verdict: sums -> metrics -> summary -> verdict -> report. Without ROS."""
