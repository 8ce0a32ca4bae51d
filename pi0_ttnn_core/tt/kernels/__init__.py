"""Our own device kernels: `expert_linear.py` beside its three .cpp files."""
