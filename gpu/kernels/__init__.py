"""Retention on torch tensors by name, and its fused kernels in Triton."""
