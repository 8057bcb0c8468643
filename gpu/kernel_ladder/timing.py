"""How a call on a GPU is timed: by its events, after a warm-up, several calls taking turns."""

import statistics

import torch


def milliseconds(calls, rounds=20, warm=3):
    """Median and spread (10th to 90th percentile) of each call of a dict, in ms; one of each a round, in turn.

    Taking turns, all of them meet the same clocks and temperature. The inputs of a call should be several times the L2
    cache, or it is the cache that is timed.
    """
    for call in calls.values():
        for _ in range(warm):
            call()
    events = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            call()
            end.record()
            events[name].append((begin, end))
    torch.cuda.synchronize()
    times = {name: sorted(begin.elapsed_time(end) for begin, end in pairs) for name, pairs in events.items()}
    return {
        name: {"median": statistics.median(row), "spread": row[(9 * len(row)) // 10] - row[len(row) // 10]}
        for name, row in times.items()
    }
