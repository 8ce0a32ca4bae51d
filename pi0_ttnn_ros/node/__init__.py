"""The lifecycle node: session from configure to cleanup, subscriptions, input check, status, logs."""
