"""Version 0: the reference itself, `refimpl.retention_chunkwise`, on tensors of the GPU."""

import functools

from refimpl import retention_chunkwise

PREDICTED_MS = 12.0
PREDICTION = """The reference widens to float32 before it multiplies. With chunks of 256 that is 0.24 TFLOP outside the
tensor cores, 5 ms at 50 TFLOP/s, and about ten passes over float32 arrays of 0.5 GB, 1 to 2 ms, in many small launches a
chunk, which at 16 chunks a sequence wait for the CPU: 12 ms."""

retention = functools.partial(retention_chunkwise, chunk_size=256)
