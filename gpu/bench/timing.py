"""Measuring: candidates of one process take turns, and one that fails or does not fit loses nothing but itself.

In every round each candidate has one turn, so whatever drifts (clocks, temperature) drifts for all. A turn is some calls
in a row, timed by CUDA events on a GPU and by the wall clock on a CPU. Medians and spreads are over the rounds. Where some
are compiled, one round that does not count comes first.
"""

import gc
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch

TURN = 0.02  # seconds that a turn lasts at least, so that what starts and ends it does not count
MOST_CALLS = 100

MEASURED, NO_ROOM, FAILED, LEFT_OUT = "measured", "does not fit", "failed", "left out"


class Work(NamedTuple):
    """What a candidate does: the function to time, tokens that a call of it handles (0: none), and fields of its row."""

    call: Callable
    tokens: int
    facts: dict


class Candidate(NamedTuple):
    """Fields of a row, and a function without arguments that allocates everything and returns the `Work`."""

    row: dict
    build: Callable


class LeftOutError(Exception):
    """Raised by a candidate's build that would take too long; says why."""


class Deadline:
    """The moment after which nothing new is begun; None: never."""

    def __init__(self, minutes=None):
        self.end = math.inf if minutes is None else time.monotonic() + 60 * minutes

    def passed(self):
        """Whether it is over."""
        return time.monotonic() >= self.end


def take_turns(candidates, rounds, device, *, deadline=None, rows=None, keep=lambda: None):
    """Build the candidates one after another, then let them take turns; returns a row, a dict, for each.

    Args:
        candidates: `Candidate`s, which are all held in memory together.
        rounds: turns of each that count.
        device: a torch device.
        deadline: a `Deadline`; candidates not built by then are left out, and of the rounds only the first is sure.
        rows: a list that receives the rows at once; they are filled as results come.
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
    playing = []
    # Streams, events and graphs are those of the current device.
    with torch.cuda.device(device) if torch.device(device).type == "cuda" else nullcontext():
        for row, candidate in zip(new, candidates, strict=True):
            if not deadline.passed():
                player = _prepare(row, candidate, device)
                playing += [player] if player else []
                keep()
        if len(playing) > 1 and any(player.row.get("compiled") for player in playing):
            # What was compiled after it can make one compile again, in a turn that must not count.
            playing = [player for player in playing if player.turn(device, counts=False)]
            keep()
        for n in range(rounds):
            if n and deadline.passed():
                break
            playing = [player for player in playing if player.turn(device)]
            keep()
    return new


class _Player:
    """A candidate that was built, with its row and what its turns took."""

    def __init__(self, row, work, repeats):
        self.row, self.work, self.repeats, self.seconds = row, work, repeats, []

    def turn(self, device, *, counts=True):
        """Take one; returns whether it went well."""
        try:
            seconds = seconds_of(self.work.call, self.repeats, device)
        except Exception as error:
            self.row.update(what_happened(error))
            return False
        if counts:
            self._count(seconds)
        return True

    def _count(self, seconds):
        """Put what a turn took into the row."""
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
    """Build and warm up one candidate; returns its `_Player`, or None with the reason in the row."""
    start = time.perf_counter()
    try:
        before = start_of_peak(device)
        work = candidate.build()
        work.call()  # the first compiles, loads libraries and allocates what stays
        once = seconds_of(work.call, 1, device)
        repeats = min(max(1, math.ceil(TURN / max(once, 1e-9))), MOST_CALLS)
        seconds_of(work.call, repeats, device)
        row.update(work.facts, peak_bytes=peak_since(before, device), preparing_seconds=time.perf_counter() - start)
    except Exception as error:
        row.update(what_happened(error))
        return None
    return _Player(row, work, repeats)


def what_happened(error):
    """The fields of a row whose candidate raised `error`."""
    if isinstance(error, LeftOutError):
        return {"status": LEFT_OUT, "remark": str(error)}
    if out_of_memory(error):
        return {"status": NO_ROOM, "remark": "out of memory"}
    first = (str(error).strip().splitlines() or [""])[0]
    return {"status": FAILED, "remark": f"{type(error).__name__}: {first}"[:300]}


def out_of_memory(error):
    """Whether memory ran out, be it that another error followed from that, as when a graph was being recorded."""
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def seconds_of(call, repeats, device):
    """Seconds of one call, the mean of `repeats` in a row."""
    if torch.device(device).type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def start_of_peak(device):
    """Give unused memory back and begin to watch; returns the bytes in use, None on a CPU."""
    if torch.device(device).type != "cuda":
        return None
    gc.collect()  # models and graphs hold themselves in circles
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak_since(before, device):
    """The most bytes in use since `start_of_peak`, less those in use then; None on a CPU."""
    return None if before is None else torch.cuda.max_memory_allocated(device) - before
