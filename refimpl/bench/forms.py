"""What the forms of retention cost on this CPU: ours and those of peers, interleaved in one process.

Speed is floating-point operations a second, and its share of the peak: that of a large float32 matrix product in the same
rounds. Only useful operations count (scores on and below the diagonal).
"""

import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from ..backward import retention_chunkwise_backward
from ..decay import head_decays
from ..retention import retention_chunkwise, retention_parallel, retention_recurrent
from .flops import useful_flops
from .timing import time_calls

HEADS, KEY_DIM, VALUE_DIM = 8, 64, 128
LONGEST_PARALLEL, LONGEST_RECURRENT = 2048, 2048  # beyond, T^2 scores or T Python steps take too long to repeat
MATRIX = 2048  # of the product that sets the peak


class Candidate(NamedTuple):
    """A call to time, and the fields of its row.

    library: who computes. form: as in `useful_flops`. chunk_size: None for forms without chunks.
    """

    name: str
    library: str
    form: str
    chunk_size: int | None
    call: Callable


def candidates(time, peers=(), heads=HEADS, more_chunks=()):
    """Every `Candidate` at length T; peers: modules as in `refimpl.bench.peers`; more_chunks: chunk sizes besides."""
    inputs = q, k, v, gamma = random_inputs(1, time, heads)
    grad = np.random.default_rng(1).standard_normal(v.shape, dtype=np.float32)
    found = []

    def add(library, form, function, *arguments, **options):
        size = options.get("chunk_size")
        name = f"{library} {form}" + (f" C={size}" if size else "")
        found.append(Candidate(name, library, form, size, functools.partial(function, *arguments, **options)))

    if time <= LONGEST_PARALLEL:
        add("NumPy", "parallel", retention_parallel, *inputs)
    if time <= LONGEST_RECURRENT:
        add("NumPy", "recurrent", retention_recurrent, *inputs)
    for size in dict.fromkeys((64, 128, 256, *more_chunks)):
        add("NumPy", "chunkwise", retention_chunkwise, *inputs, chunk_size=size)
    add("NumPy", "backward", retention_chunkwise_backward, *inputs, grad, chunk_size=128)
    if kernels := numba_kernels():
        add("Numba", "recurrent", kernels.retention_recurrent_numba, *inputs)
        for size in dict.fromkeys((64, 128, *more_chunks)):
            add("Numba", "chunkwise", kernels.retention_chunkwise_numba, *inputs, chunk_size=size)
        add("Numba", "backward", kernels.retention_chunkwise_backward_numba, *inputs, grad, chunk_size=64)
    return found + [each for peer in peers for each in peer.forms(q, k, v, gamma)]


def random_inputs(batch, time, heads=HEADS, key_dim=KEY_DIM, value_dim=VALUE_DIM):
    """q, k, v (normal, float32) and gamma, the same at every call."""
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, batch, heads, time, key_dim), dtype=np.float32)
    return q, k, rng.standard_normal((batch, heads, time, value_dim), dtype=np.float32), head_decays(heads)


def numba_kernels():
    """The module of the compiled forms, or None without Numba."""
    if find_spec("numba") is None:
        return None
    from .. import numba_kernels

    return numba_kernels


def measure_forms(times, rounds, peers=(), progress=lambda lengths: lengths):
    """Rows of every candidate at every length.

    The fastest round counts, for the peak as for the candidates, because other programs only ever slow one down.
    progress: wraps the list of lengths, for a progress bar.
    """
    rows = []
    a, b = np.random.default_rng(1).standard_normal((2, MATRIX, MATRIX), dtype=np.float32)
    for length in progress(times):
        found = candidates(length, peers)
        calls = {"peak": functools.partial(np.matmul, a, b)} | {each.name: each.call for each in found}
        seconds = time_calls(calls, rounds)
        peak = 2 * MATRIX**3 / min(seconds["peak"])
        for each in found:
            fastest = min(seconds[each.name])
            rate = useful_flops(each.form, HEADS, length, KEY_DIM, VALUE_DIM, each.chunk_size) / fastest
            rows.append(
                {
                    "name": each.name, "library": each.library, "form": each.form, "time": length,
                    "chunk_size": each.chunk_size, "seconds": fastest,
                    "median_seconds": float(np.median(seconds[each.name])), "gflops": rate / 1e9,
                    "share_of_peak": rate / peak, "peak_gflops": peak / 1e9,
                }
            )  # fmt: skip
    return rows
