"""The machine: scheduling, package files, processor."""
