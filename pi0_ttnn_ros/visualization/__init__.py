"""Visualization for RViz and Foxglove: annotated images and predicted paths."""
