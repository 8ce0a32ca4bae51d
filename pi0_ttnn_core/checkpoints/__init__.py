"""A checkpoint folder: checked and named tensors, and the metadata of the training."""
