"""The model in plain torch, float32: the truth that every backend is measured against, and the CPU backend."""
