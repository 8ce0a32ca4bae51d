"""The model in TTNN, file by file and method by method like `reference/`. No torch runs in the forward pass."""
