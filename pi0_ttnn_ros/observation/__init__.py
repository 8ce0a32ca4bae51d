"""The newest inputs -> one observation."""
