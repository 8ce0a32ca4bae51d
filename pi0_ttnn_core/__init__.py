"""The PI0 policy: checkpoints, transforms and the model. Independent of ROS."""
