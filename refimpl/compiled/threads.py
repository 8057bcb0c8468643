"""Heads shared out to threads, for loops that release Python's lock.

Numba's own threads are not used: after each loop they spin while they wait, and so do those of the BLAS behind NumPy's
products. In a model the two alternate, and each would slow the other down.
"""

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numba import config

# Waking a thread costs some ten microseconds: a few hundred thousand multiply-adds.
WORTH_A_THREAD = 2**18


def over_heads(loop: Callable[..., None], heads: int, work: int, *arguments: Any) -> None:
    """Call loop(start, stop, *arguments) over consecutive parts of range(heads), one a thread; wait for all.

    work: multiply-adds of all heads together; it decides whether threads pay. At most as many threads as Numba would use
    (NUMBA_NUM_THREADS), including the caller's own.
    """
    threads = max(1, min(heads, config.NUMBA_NUM_THREADS, work // WORTH_A_THREAD))
    bounds = [heads * part // threads for part in range(threads + 1)]
    (first, second), *others = itertools.pairwise(bounds)
    waiting = [_pool().submit(loop, start, stop, *arguments) for start, stop in others]
    loop(first, second, *arguments)
    for each in waiting:
        each.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, config.NUMBA_NUM_THREADS - 1), thread_name_prefix="retention")


if hasattr(os, "register_at_fork"):  # a forked process has no threads but the one that forked
    os.register_at_fork(after_in_child=_pool.cache_clear)
