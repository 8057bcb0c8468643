"""The fused kernels at the import path that other programs use; they live in `gpu.kernels`."""

from .kernels.triton_retention import retention_chunkwise_triton, retention_step_triton

__all__ = ["retention_chunkwise_triton", "retention_step_triton"]
