"""The lifecycle node: session from configure to cleanup, inputs, input check, status."""
