"""Each component on the device against the reference: comparison, harness, components, runner."""
