"""The reference on torch: the same forward pass, trained and sampled, on the CPU or a GPU."""
