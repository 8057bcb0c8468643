"""Heads shared out to threads, for kernels that release Python's lock.

Numba's own threads are left aside: after each loop they wait in a loop of their own, and so do those of the library
behind NumPy's products, so that in a model, where the two alternate, each slows the other down.
"""

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

from numba import config

# Waking a thread costs some ten microseconds: a few hundred thousand multiply-adds.
WORTH_A_THREAD = 2**18


def over_heads(kernel, heads, work, *arguments):
    """Call kernel(start, stop, *arguments) over consecutive parts of range(heads), one a thread; wait for all.

    work: multiply-adds of all heads together, which decides whether threads pay. As many threads as Numba would use
    (NUMBA_NUM_THREADS), the caller's own included.
    """
    threads = max(1, min(heads, config.NUMBA_NUM_THREADS, work // WORTH_A_THREAD))
    bounds = [heads * part // threads for part in range(threads + 1)]
    (first, second), *others = itertools.pairwise(bounds)
    waiting = [_pool().submit(kernel, start, stop, *arguments) for start, stop in others]
    kernel(first, second, *arguments)
    for each in waiting:
        each.result()


@functools.cache
def _pool():
    return ThreadPoolExecutor(max(1, config.NUMBA_NUM_THREADS - 1), thread_name_prefix="retention")


if hasattr(os, "register_at_fork"):  # a forked process has no threads but the one that forked
    os.register_at_fork(after_in_child=_pool.cache_clear)
