"""A folder of files to checked, named tensors and what the training configuration says."""
