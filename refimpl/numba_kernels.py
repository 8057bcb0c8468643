"""The compiled forms at the import path that other programs use; they are in `refimpl.compiled`."""

from .compiled.kernels import (
    retention_chunkwise_backward_numba,
    retention_chunkwise_numba,
    retention_recurrent_backward_numba,
    retention_recurrent_numba,
    retention_step_numba,
)

__all__ = [
    "retention_chunkwise_backward_numba",
    "retention_chunkwise_numba",
    "retention_recurrent_backward_numba",
    "retention_recurrent_numba",
    "retention_step_numba",
]
