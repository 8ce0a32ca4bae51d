"""From the robot's units to the model's and back: images, state, actions, prompt."""
