"""Which of the known mistakes gives the wrong results of a kernel."""

import numpy as np

from .comparison import difference
from .formulas import CHUNKS, formulas


def wrong_results(case, results, tolerance):
    """[(name, got, want)] of the results that are wrong."""
    return [
        (what, got, want)
        for what, got, want in zip(("out", "state"), results, case.reference, strict=True)
        if got is not None and difference(what, got, want, tolerance) is not None
    ]


def apart(got, other, want):
    """The difference of two arrays, head by head relative to the size of want (B, H, ., .); their mean."""
    size = np.mean(want**2, axis=(-2, -1))
    return float(np.sqrt(np.mean(np.mean((got - other) ** 2, axis=(-2, -1)) / np.where(size > 0, size, 1.0))))


def apart_at_least(got, beginning, want):
    """What `apart` is at least for a guess, of which only the first tokens of the first sequence are known."""
    tokens = beginning.shape[2]
    size = np.sum(want[:1] ** 2, axis=(-2, -1))
    off = np.sum((got[:1, :, :tokens] - beginning) ** 2, axis=(-2, -1))
    return float(np.sqrt(np.mean(off / np.where(size > 0, size, 1.0)) / len(want)))


def allowed(got, want, tolerance):
    """How far from a wrong result a guess may be that explains it."""
    error = apart(got, want, want)
    return max(0.01 * error, 2 * tolerance if error >= 6 * tolerance else 0.0)


def explains(got, guess, want, tolerance):
    """How far a guess leaves a wrong result unexplained, or None if too far."""
    rest = apart(got, guess, want)
    return rest if rest <= allowed(got, want, tolerance) else None


def by_formula(kernel, dtype, case, results):
    """The mistake whose formula gives a kernel's wrong results, or None."""
    tolerance = kernel.tolerance(dtype)
    wrong = wrong_results(case, results, tolerance)
    if not wrong or not all(np.isfinite(got).all() for _, got, _ in wrong):
        return None
    limits = {what: allowed(got, want, tolerance) for what, got, want in wrong}
    what, got, want = wrong[0]
    best = None
    for mistake, beginning, guesses in formulas(case, chunk_sizes(kernel)):
        if beginning and what == "out" and apart_at_least(got, beginning(), want) > limits[what]:
            continue
        named = dict(zip(("out", "state"), guesses(), strict=True))
        rests = {name: apart(x, named[name], right) for name, x, right in wrong}
        if not all(rest <= limits[name] for name, rest in rests.items()):
            continue
        # What it says of a right result must not be wrong; if it is, another may explain more.
        others = [
            apart(named[what], want, want) > tolerance
            for what, want in zip(("out", "state"), case.reference, strict=True)
            if what not in {name for name, *_ in wrong}
        ]
        found = (sum(others), max(sum(rests.values()), tolerance)), mistake
        if best is None or found[0][0] < best[0][0] or (found[0][0] == best[0][0] and found[0][1] < best[0][1] / 10):
            best = found
            if best[0] == (0, tolerance):
                break  # it explains all there is
    return best and best[1]


def chunk_sizes(kernel):
    """The chunk sizes that a kernel may compute with, those that it declares first."""
    return tuple(dict.fromkeys((*kernel.chunk_sizes, *CHUNKS)))
