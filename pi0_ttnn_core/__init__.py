"""The PI0 policy: checkpoints, transforms and the model. Knows nothing of ROS."""
