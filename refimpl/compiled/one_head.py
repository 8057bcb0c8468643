"""A kernel of one head, as a reader writes it in plain loops, made a retention under the contract and tried."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numba.core.errors import NumbaError

from ..bench.forms import random_inputs
from ..bench.timing import time_calls
from ..checks import check_integer
from ..conformance import ConformanceError, check
from ..conformance.report import SKIPPED
from ..retention import prepare, retention_chunkwise
from .kernels import retention_chunkwise_numba

TIME = 512  # tokens of the text that is timed


def compile_one_head(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The retention (q, k, v, gamma, state=None, *, chunk_size=64) that calls a kernel, compiled by Numba, for each head.

    kernel: (q, k, v, gamma, state, chunk_size) -> (out, state), q, k (T, K), v, out (T, V), gamma a float, state (K, V),
    arrays of float32 or float64 in C order. It must leave its arguments as they are.
    """
    compiled = njit(nogil=True, error_model="numpy")(
        getattr(kernel, "py_func", kernel)
    )  # of one that is compiled already

    def retention(q: Any, k: Any, v: Any, gamma: Any, state: Any = None, *, chunk_size: int = 64) -> tuple[Any, Any]:
        chunk_size = check_integer("chunk_size", chunk_size, minimum=1)
        q, k, v, before, dtype = prepare(q, k, v, gamma, state)
        q, k, v, before = map(np.ascontiguousarray, (q, k, v, before))
        out, after = np.empty(v.shape, v.dtype), np.empty(before.shape, before.dtype)
        for b, h in np.ndindex(*q.shape[:2]):
            one = q[b, h], k[b, h], v[b, h], float(gamma[h]), before[b, h], chunk_size
            out[b, h], after[b, h] = compiled(*one)
        return out.astype(dtype, copy=False), after

    return retention


def trial(kernel: Callable[..., Any], rounds: int = 7) -> str:
    """What a kernel of one head is worth, in words: whether Numba compiles it, the conformance report, and its time.

    kernel: as in `compile_one_head`. rounds: as in `refimpl.bench.timing`.
    """
    q, k, v, gamma = random_inputs(1, TIME, 1)
    retention = compile_one_head(kernel)
    try:
        kernel(*(x[0, 0, :2] for x in (q, k, v)), 0.5, np.zeros((q.shape[3], v.shape[3]), q.dtype), 1)
        retention(q, k, v, gamma)
    except NotImplementedError as error:
        return f"not written yet ({error})"
    except NumbaError as error:
        return f"Numba cannot compile it:\n{error}"
    except Exception as error:  # a reader's own code: whatever it raises is its answer
        return f"it ends in an error: {type(error).__name__}: {error}"
    try:
        report = check(retention, gradients=False, chunk_sizes=(1, 7), nan_reach=63, stop=True)
    except ConformanceError as error:
        return f"it compiles, but it is no retention yet:\n{error}"
    calls = {
        "yours": partial(retention, q, k, v, gamma),
        "the package's compiled form": partial(retention_chunkwise_numba, q, k, v, gamma),
        "the package's form in NumPy": partial(retention_chunkwise, q, k, v, gamma),
    }
    seconds = {name: min(each) for name, each in time_calls(calls, rounds).items()}
    ran = sum(row.verdict != SKIPPED for row in report.rows)
    lines = [f"your kernel is a retention under the contract: all {ran} checks passed"]
    lines += [f"measured: {1e3 * each:.2f} ms {name}" for name, each in seconds.items()]
    if seconds["yours"] > seconds["the package's form in NumPy"]:
        lines.append(
            "slower than NumPy, as loops usually are that sum each score into one number. What costs more than it must: a power "
            "of gamma in the innermost loop, a last index that does not run innermost, a table in float64 for arrays in float32."
        )
    return "\n".join(lines)
