"""Everything around the model on the device: opening it, laying out inputs, sessions with a trace, the backend."""
