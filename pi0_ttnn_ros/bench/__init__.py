"""Measurements: the node, replay decoding, the model."""
