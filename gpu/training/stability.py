"""How smoothly a run trained, of its log: spikes of the training loss, and the largest gradient."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

BEFORE = 50  # steps that a step is compared with; the first of a run, in which the loss falls fast, are not judged
SPIKE = 6.0  # robust deviations of those steps above their median: of normal noise, one step in a billion


def stability(log):
    """A summary of a run's log, the list of dicts of `refimpl.training.loop.read_log`.

    Returns a dict: steps, how many were taken; first, the training loss of the first of them; largest_rise, of the training
    loss over the median of the 50 steps before, spikes, how often it rose by more than 6 of their robust deviations (1.48
    times the median distance from the median), and largest_gradient_norm, each from step 51 on, None in a shorter log.

    >>> calm = [{"training": 2 + n % 2 / 10, "gradient_norm": 0.5} for n in range(60)]
    >>> spike = {"training": 5.0, "gradient_norm": 9.0}
    >>> stability([*calm, spike, spike, *calm])
    {'steps': 122, 'first': 2.0, 'largest_rise': 2.95, 'spikes': 1, 'largest_gradient_norm': 9.0}
    """
    losses, norms = (np.array([line[name] for line in log]) for name in ("training", "gradient_norm"))
    found = {"steps": len(log), "first": float(losses[0]) if len(log) else None}
    if len(log) <= BEFORE:
        return found | dict.fromkeys(("largest_rise", "spikes", "largest_gradient_norm"))
    before = sliding_window_view(losses, BEFORE)[:-1]
    middle = np.median(before, axis=1)
    spread = 1.4826 * np.median(np.abs(before - middle[:, None]), axis=1)
    rises = losses[BEFORE:] - middle
    above = np.concatenate([[False], rises > SPIKE * spread])
    return found | {
        "largest_rise": round(float(rises.max()), 4),
        "spikes": int((above[1:] & ~above[:-1]).sum()),
        "largest_gradient_norm": round(float(norms[BEFORE:].max()), 4),
    }
