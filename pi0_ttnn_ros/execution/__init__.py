"""Chunks -> one motion within the limits."""
