"""The machine: scheduling, processes, package files, processor, sensors of cards."""
