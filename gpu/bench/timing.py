"""Timing on a GPU or a CPU: candidates of one process, interleaved; one that fails does not affect the others.

`refimpl.bench.timing` defines a round. A candidate is timed over several calls in a row, by CUDA events on a GPU and by the
wall clock on a CPU. Medians and spreads are over the rounds.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch

from refimpl.bench.timing import interleave, wall_seconds

LEAST_SECONDS = 0.02  # of the calls timed together, so that the cost of starting and ending them is small
MOST_CALLS = 100

MEASURED, NO_ROOM, FAILED, LEFT_OUT = "measured", "does not fit", "failed", "left out"


class Work(NamedTuple):
    """The function to time, the tokens that one call handles (0: none), and fields of the row."""

    call: Callable
    tokens: int
    facts: dict


class Candidate(NamedTuple):
    """Fields of a row, and a function without arguments that allocates everything and returns the `Work`."""

    row: dict
    build: Callable


class LeftOutError(Exception):
    """Raised by the build of a candidate that would take too long; says why."""


class Deadline:
    """A time limit for starting new work; minutes from now, None for no limit."""

    def __init__(self, minutes=None):
        self.end = math.inf if minutes is None else time.monotonic() + 60 * minutes

    def passed(self):
        """True once the time is over."""
        return time.monotonic() >= self.end


def time_candidates(candidates, rounds, device, *, deadline=None, rows=None, keep=lambda: None):
    """Build the candidates one after another, then time each once a round; returns a row, a dict, for each.

    Args:
        candidates: `Candidate`s; all are in memory at the same time.
        rounds: how often each is timed.
        device: a torch device.
        deadline: a `Deadline`; candidates not built by then are left out, and only the first round is certain.
        rows: a list to which the rows are added at the start; they are filled as results arrive.
        keep: called whenever a row changed, to write them all.

    A row holds the candidate's fields, the facts of its work and: status, "measured", "does not fit", "failed" or "left
    out"; remark, why; seconds of a call, {"median", "min", "max", "quartiles"} over `rounds`; tokens_per_second by the
    median; peak_bytes, the most memory that the candidate held at once, its parameters included, and None on a CPU.
    """
    deadline = deadline or Deadline()
    new = [candidate.row | {"status": LEFT_OUT, "remark": "not reached"} for candidate in candidates]
    if rows is not None:
        rows += new
    keep()
    ready = {}
    # Streams, events and graphs are those of the current device.
    with torch.cuda.device(device) if torch.device(device).type == "cuda" else nullcontext():
        for number, candidate in enumerate(candidates):
            if not deadline.passed():
                if prepared := _prepare(new[number], candidate, device):
                    ready[number] = prepared
                keep()
        # Building one candidate can make a compiled one compile again, so the first round does not count.
        warm = len(ready) > 1 and any(prepared.row.get("compiled") for prepared in ready.values())
        for number, readings in enumerate(interleave(ready, rounds + warm, _Prepared.time)):
            for name, reading in readings.items():
                if isinstance(reading, dict):
                    ready.pop(name).row.update(reading)
                elif number >= warm:
                    ready[name].record(reading)
            keep()
            if number >= warm and deadline.passed():
                break
    return new


class _Prepared:
    """A candidate that was built: its row, its work, and the seconds of its rounds."""

    def __init__(self, row, work, repeats, device):
        self.row, self.work, self.repeats, self.device, self.seconds = row, work, repeats, device, []

    def time(self):
        """Seconds of a call; or the fields that say how it failed, because the error itself would keep memory in use."""
        try:
            return seconds_of(self.work.call, self.repeats, self.device)
        except Exception as error:
            return what_happened(error)

    def record(self, seconds):
        """Add a round to the row."""
        self.seconds.append(seconds)
        median = float(np.median(self.seconds))
        self.row.update(
            status=MEASURED,
            remark="",
            seconds={
                "median": median,
                "min": min(self.seconds),
                "max": max(self.seconds),
                "quartiles": [float(x) for x in np.percentile(self.seconds, (25, 75))],
            },
            rounds=len(self.seconds),
            calls_a_turn=self.repeats,
        )
        if self.work.tokens:
            self.row["tokens_per_second"] = self.work.tokens / median


def _prepare(row, candidate, device):
    """Build and warm up one candidate; returns it `_Prepared`, or None with the reason in the row."""
    start = time.perf_counter()
    try:
        before = start_of_peak(device)
        work = candidate.build()
        work.call()  # the first call compiles, loads libraries and allocates what stays
        once = seconds_of(work.call, 1, device)
        repeats = min(max(1, math.ceil(LEAST_SECONDS / max(once, 1e-9))), MOST_CALLS)
        seconds_of(work.call, repeats, device)
        row.update(work.facts, peak_bytes=peak_since(before, device), preparing_seconds=time.perf_counter() - start)
    except Exception as error:
        row.update(what_happened(error))
        return None
    return _Prepared(row, work, repeats, device)


def milliseconds(calls, rounds=20, warm=3):
    """{name: {"median", "spread"}} of GPU calls by name, in ms; the spread is from the 10th to the 90th percentile.

    The CPU queues every call without waiting for the one before, so that the GPU stays busy. The inputs of a call should
    be several times as large as the L2 cache, or the cache is timed instead of memory.
    """
    for call in calls.values():
        for _ in range(warm):
            call()
    readings = list(interleave(calls, rounds, events_around))
    torch.cuda.synchronize()
    found = {}
    for name in calls:
        times = sorted(start.elapsed_time(end) for start, end in (each[name] for each in readings))
        spread = times[(9 * rounds) // 10] - times[rounds // 10]
        found[name] = {"median": statistics.median(times), "spread": spread}
    return found


def events_around(call, repeats=1):
    """Queue a call `repeats` times between two events of the GPU; returns the events."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    return start, end


def seconds_of(call, repeats, device):
    """Seconds of one call, the mean of `repeats` in a row."""
    if torch.device(device).type != "cuda":
        return wall_seconds(call, repeats)
    start, end = events_around(call, repeats)
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def host_seconds(call, device, *, calls=40, rounds=9):
    """What a call takes the CPU, {"median", "min", "max"} of the means over some calls that no GPU is waited for; None on a CPU.

    Calls that take the GPU long are few, for a full queue makes the CPU wait.
    """
    if torch.device(device).type != "cuda":
        return None
    call()
    once, readings = seconds_of(call, 1, device), []
    calls = min(calls, max(1, int(LEAST_SECONDS / max(once, 1e-9))))
    for _ in range(rounds if once < LEAST_SECONDS else 3):
        torch.cuda.synchronize(device)  # the queue is empty
        readings.append(wall_seconds(call, calls))
    torch.cuda.synchronize(device)
    return {"median": statistics.median(readings), "min": min(readings), "max": max(readings)}


def what_happened(error):
    """The fields of a row whose candidate raised `error`."""
    if isinstance(error, LeftOutError):
        return {"status": LEFT_OUT, "remark": str(error)}
    if out_of_memory(error):
        return {"status": NO_ROOM, "remark": "out of memory"}
    first = (str(error).strip().splitlines() or [""])[0]
    return {"status": FAILED, "remark": f"{type(error).__name__}: {first}"[:300]}


def out_of_memory(error):
    """True if memory ran out, also if another error followed from that, as while recording a graph."""
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def start_of_peak(device):
    """Give unused memory back and start counting the peak; returns the bytes in use, None on a CPU."""
    if torch.device(device).type != "cuda":
        return None
    gc.collect()  # models and graphs refer to themselves
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak_since(before, device):
    """The most bytes in use since `start_of_peak`, minus those in use then; None on a CPU."""
    return None if before is None else torch.cuda.max_memory_allocated(device) - before
