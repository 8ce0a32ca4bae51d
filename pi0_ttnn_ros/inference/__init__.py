"""Observation -> chunk, in another process."""
