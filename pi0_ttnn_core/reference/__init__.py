"""The model in plain torch, float32: the reference for every other backend, and the CPU backend itself."""
