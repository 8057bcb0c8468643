"""Compile the kernels that the benchmark measures in parallel processes, which leave them in Triton's cache.

One after another they would take most of the benchmark's time. Peers that choose among many configurations compile all of
them here and time none: fifteen processes on one GPU would time one another. The benchmark reports those that fail here.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import torch

from ..kernels.peers import PEERS
from ..kernels.registry import RETENTIONS
from .accuracy import DTYPES, errors
from .kernel_calls import kernel_work
from .kernel_floor import BOTH, SHAPES
from .timing import LeftOutError

TOKENS = 1024, 16384  # 1024 are few enough that time is cut into segments at the small shape


def jobs(shapes, device):
    """Arguments of `job` for every kernel that Triton compiles, of these names of `SHAPES`, at few and many tokens, and for errors of each dtype."""
    names = [
        row.kernel_label for row in RETENTIONS.values() if row.kernel_label and row.fused and row.available(device)
    ]
    names += [row.label for row in PEERS.values() if row.available(device)]
    found = [(name, shape, 1024, tokens, device) for name in names for shape in shapes for tokens in TOKENS]
    return found + [(dtype, shape, time, time, device) for dtype in DTYPES for shape in shapes for time in (1, 1000)]


def job(name, shape, time, tokens, device):
    """Run one job, a kernel by its name or errors by their dtype; returns what went wrong, or None."""
    try:
        if name in DTYPES:
            errors(*SHAPES[shape][1:], time, getattr(torch, name), device)
        else:
            kernel_work(name, BOTH, SHAPES[shape], time, tokens, device).call()
    except LeftOutError:
        return None
    except Exception as error:
        return f"{name}, {shape}: {type(error).__name__}: {error}"[:200]
    return None


def run_each_once():
    """Make Triton's autotuner run each configuration once in this process, and not for a time."""
    from triton.runtime.autotuner import Autotuner

    def once(call, quantiles):
        call()
        return [1.0] * len(quantiles)

    def untimed(self, key, configs, run):
        run()
        return False  # nothing was read, and nothing is kept, for a benchmark would take it as measured

    Autotuner.do_bench = property(lambda self: once)
    Autotuner.check_disk_cache = untimed


def compile_ahead(every, workers=None):
    """Run these jobs in one process for each processor but one; returns what went wrong."""
    workers = workers or max(1, min(len(every), (os.cpu_count() or 2) - 1))
    try:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawn, initializer=run_each_once) as pool:
            return [failure for failure in pool.map(job, *zip(*every, strict=True)) if failure]
    except Exception as error:  # for example, a process was killed
        return [f"{type(error).__name__}: {error}"[:200]]
