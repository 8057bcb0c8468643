"""Which tiles the fused kernels use: those that `python -m gpu.kernel_ladder.tune` found fastest, or small ones."""

import functools
import json
import math
from pathlib import Path

import torch
from triton.runtime.errors import OutOfResources

TABLE = Path(__file__).with_name("triton_tiles.json")
_too_large = set()  # arguments of `tiles_for` of which the nearest configuration was


@functools.cache
def tiles_for(key_dim, value_dim, dtype, device=None, chunk=0):
    """The stored configuration whose widths are nearest to these, of those that are for heads as wide.

    A dict of "forward" and "backward", each of chunk, one_pass, programs, the number to cut time for, and, by role, tiles
    or lists of them, widest first: see `gpu.triton_retention.forward_of` and `backward_of`. device, chunk: what they were
    too large for is remembered.
    """
    table = json.loads(TABLE.read_text())
    if (key_dim, value_dim, dtype, device, chunk) in _too_large:
        return table["modest"]
    octaves = lambda entry: sum(  # noqa: E731
        abs(math.log2(width / stored)) for width, stored in zip((key_dim, value_dim), entry["widths"], strict=True)
    )
    wide = max(key_dim, value_dim)
    entries = table["float" if dtype == torch.float32 else "half"]
    return min((entry for entry in entries if wide <= entry.get("widest", math.inf)), key=octaves)


def with_tiles_that_fit(function):
    """A function of q, k, v ... chunk, called again with modest tiles where a multiprocessor has no room for the stored.

    They were measured on one GPU; Triton refuses to launch what another cannot hold, before it runs.
    """

    @functools.wraps(function)
    def call(q, k, v, *rest):
        try:
            return function(q, k, v, *rest)
        except OutOfResources:
            kind = q.shape[3], v.shape[3], q.dtype, q.device, rest[-1]
            if kind in _too_large:
                raise
            _too_large.add(kind)
            tiles_for.cache_clear()
            return function(q, k, v, *rest)

    return call
