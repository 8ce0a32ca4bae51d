"""The machine: scheduling, package files, processor, sensors of cards."""
