"""The machine: scheduling, package files, processor. Imports no other room."""
