"""The model in TTNN, file by file and method by method as in `reference/`. No torch in the forward pass."""
