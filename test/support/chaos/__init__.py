"""Chaos: random faults around a running policy node, and an independent judge of every command that leaves it."""
