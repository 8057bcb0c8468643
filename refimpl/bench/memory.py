"""What a token of a very long sequence costs on this CPU, and the memory that the sequence takes."""

import functools
from multiprocessing import get_context
from pathlib import Path

from ..retention import retention_chunkwise
from .forms import numba_kernels, random_inputs
from .timing import time_calls


def long_sequences(rounds, lengths):
    """Rows of nanoseconds a token and memory beyond inputs and outputs, chunkwise, B 1, float32.

    The memory, in MiB, is the largest resident size during a call, less the size before it and what is returned; None
    where the system does not tell (it is read from Linux's /proc).
    """
    rows = []
    for time in lengths:
        inputs = random_inputs(1, time)
        calls = {name: functools.partial(form, *inputs) for name, form in _chunkwise_forms().items()}
        for name, seconds in time_calls(calls, rounds).items():
            with get_context("spawn").Pool(1) as fresh:  # this process would reuse memory that it has freed, unseen
                memory = fresh.apply(memory_beyond, (name, time))
            rows.append(
                {"name": name, "time": time, "ns_per_token": min(seconds) / time * 1e9, "mib_beyond_outputs": memory}
            )
    return rows


def memory_beyond(name, time):
    """MiB that the form of that name takes at length `time` beyond inputs and outputs, in a fresh process; or None."""
    form, inputs = _chunkwise_forms()[name], random_inputs(1, time)
    form(*random_inputs(1, 128))  # loads libraries and compiled code
    before = _resident("VmRSS")
    if before is None:
        return None
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present size
    returned = form(*inputs)
    return round((_resident("VmHWM") - before - sum(array.nbytes for array in returned)) / 2**20, 1)


def _chunkwise_forms():
    kernels = numba_kernels()
    return {"NumPy": retention_chunkwise} | ({"Numba": kernels.retention_chunkwise_numba} if kernels else {})


def _resident(field):
    """Bytes that /proc/self/status gives for `field`, or None."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)
