"""The retentions that a run can name. A fused one is one more line here."""

import functools

from refimpl import retention_chunkwise, retention_parallel

# Each takes a chunk size and returns a function under the contract of `refimpl.retention`.
RETENTIONS = {
    "parallel": lambda chunk_size: retention_parallel,
    "chunkwise": lambda chunk_size: functools.partial(retention_chunkwise, chunk_size=chunk_size),
}
