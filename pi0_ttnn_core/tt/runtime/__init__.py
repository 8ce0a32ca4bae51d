"""What is around the model on the device: opening it, the session (trace), the host's inputs, the backend."""
