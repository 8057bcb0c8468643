"""Timing calls side by side: every round times each call once, so clocks and temperature drift for all alike.

The clock is handed in. Here is that of a CPU; `gpu.bench.timing` has those of a GPU.
"""

import time

PAUSE = 0.06  # seconds; OpenBLAS's threads keep a core busy for tens of milliseconds after a call


def interleave(calls, rounds, clock):
    """Yield {name: reading} of each round.

    Args:
        calls: {name: what the clock takes}. A call that the caller deletes is left out of the rounds that follow.
        rounds: their number.
        clock: called with each of `calls`, one after another; returns the reading.

    >>> ticks = iter(range(10))
    >>> list(interleave({"a": None, "b": None}, 2, clock=lambda call: next(ticks)))
    [{'a': 0, 'b': 1}, {'a': 2, 'b': 3}]
    """
    for _ in range(rounds):
        yield {name: clock(call) for name, call in calls.items()}


def wall_seconds(call, repeats=1, now=None):
    """Seconds of a call by the wall clock, the mean of `repeats` in a row. now: another clock."""
    now = now or time.perf_counter
    start = now()
    for _ in range(repeats):
        call()
    return (now() - start) / repeats


def settled_seconds(call):
    """Seconds of a call after a pause, in which other threads come to rest, and a first call, which meets cold caches."""
    time.sleep(PAUSE)
    call()
    return wall_seconds(call)


def processor_seconds(call):
    """Seconds that a call keeps the processor busy, after a first call; with one thread there is none that must come to rest."""
    call()
    return wall_seconds(call, now=time.process_time)


def time_calls(calls, rounds, clock=settled_seconds):
    """{name: [seconds]} of `calls`, functions by name, in each of `rounds` rounds; one more comes first, uncounted.

    clock: of a call. `processor_seconds` is for calls of one thread on a machine that others use, whose time it leaves out.
    """
    _, *counted = interleave(calls, rounds + 1, clock)
    return {name: [readings[name] for readings in counted] for name in calls}
