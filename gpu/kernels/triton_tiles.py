"""The tiles of the fused kernels: those that `python -m gpu.kernel_ladder.tune` found fastest, or small ones."""

import functools
import json
import math
from operator import le
from pathlib import Path

import torch
from triton.runtime.errors import OutOfResources

TABLE = Path(__file__).with_name("triton_tiles.json")
_too_large = set()  # kinds of calls, as `_kind` returns them, for which the stored tiles were too large


def tiles_of(q, v, chunk):
    """The configuration for a call: the nearest of `tiles_for`, or a modest one if that was found too large.

    A dict of "forward" and "backward". Each holds chunk, one_pass, programs (the number to cut time for), perhaps span (tokens
    between states, a multiple of chunk and by default as long) and, by role, tiles: see `forward_of` and `backward_of` in
    `gpu.kernels.triton_retention`. States, and all roles of one pass, have a list of tiles; a call takes one of them by the
    number of programs that it makes. "gradients", which may stand beside dq, dk and dv, replaces them, in one pass the last two.
    """
    return modest_tiles() if _found_too_large(q, v, chunk) else tiles_for(q.shape[3], v.shape[3], q.dtype)


@functools.cache
def tiles_for(key_dim, value_dim, dtype):
    """The stored configuration whose widths are nearest to these; one pass holds no wider heads than it was measured with."""
    widths = key_dim, value_dim

    def holds(entry):
        return not any(entry[way]["one_pass"] for way in ("forward", "backward")) or all(
            map(le, widths, entry["widths"])
        )

    def octaves(entry):
        return sum(abs(math.log2(x / stored)) for x, stored in zip(widths, entry["widths"], strict=True))

    return min(filter(holds, json.loads(TABLE.read_text())["float" if dtype == torch.float32 else "half"]), key=octaves)


@functools.cache
def modest_tiles():
    """The configuration for halves that fits any GPU; the stored one of float32 is no larger."""
    return json.loads(TABLE.read_text())["modest"]


def with_tiles_that_fit(function):
    """A function of q, k, v ... chunk that is called again with modest tiles if the stored ones do not fit the GPU.

    They were measured on one GPU. On a smaller one Triton raises before the launch.
    """

    @functools.wraps(function)
    def call(q, k, v, *rest):
        if not _found_too_large(q, v, rest[-1]):
            try:
                return function(q, k, v, *rest)
            except OutOfResources:
                if q.dtype == torch.float32:
                    raise
            # After the except block, which keeps the arrays of the failed call alive.
            _too_large.add(_kind(q, v, rest[-1]))
        return function(q, k, v, *rest)

    return call


def _found_too_large(q, v, chunk):
    return bool(_too_large) and _kind(q, v, chunk) in _too_large


def _kind(q, v, chunk):
    return q.shape[3], v.shape[3], q.dtype, q.device, chunk
