"""The mistake that a wrong result usually comes from: by what known mistakes give, by its terms, or by where it is wrong."""

import functools

import numpy as np

from . import locations
from .comparison import Failure, difference
from .gradient_mistakes import by_gradient
from .matching import by_formula
from .problems import Problem
from .terms import by_terms

UNKNOWN = "unknown"


def diagnose(kernel, dtype, failure):
    """(name, sentence): the likely mistake behind a `Failure` of a check, found by calling the kernel again."""
    kernel = failure.kernel or kernel
    if failure.mistake is not None:
        return failure.mistake
    if failure.difference is None:
        return UNKNOWN, "no pattern is known for this"
    with np.errstate(all="ignore"):
        if failure.upstream is not None:
            try:
                kernel.right(failure.problem, dtype)
            except Failure as forward:
                return diagnose(kernel, dtype, forward)
            return _attempt(by_gradient, kernel, dtype, failure) or _unknown()
        solved, mistake = _of_probe(kernel, dtype)
        short = failure.problem.time <= 2  # too short to tell one mistake from another
        return (
            _attempt(_unwritten, kernel, dtype, failure.problem)
            or _attempt(_remembers, kernel, dtype)
            or mistake
            or (None if short else _of_result(kernel, dtype, failure))
            or locations.by_precision(dtype, failure.difference)
            or (_of_short_texts(failure) if short and solved else None)
            or _attempt(locations.by_size, kernel, dtype, failure.problem, kernel.right)
            or _unknown()
        )


def _unknown():
    return UNKNOWN, "no known mistake gives these numbers"


def _attempt(step, *arguments):
    """What a step of the search finds; None also if the kernel fails in another way on the way."""
    try:
        return step(*arguments)
    except Failure:
        return None


@functools.lru_cache(maxsize=8)
def _of_probe(kernel, dtype):
    """(solved, mistake): of a problem on which most mistakes show, each in its own way. Found once for all checks."""
    try:
        kernel.right(kernel.problem(dtype, 2, 3, 200, 8, 12, gamma=(0.9, 0.97, 0.9991)), dtype)
    except Failure as failure:
        return False, None if failure.difference is None else _of_result(kernel, dtype, failure)
    return True, None


def _of_result(kernel, dtype, failure):
    """The mistake behind one wrong result, or None."""
    case = kernel.scaled(failure.problem)
    return (
        by_formula(kernel, dtype, case, failure.results)
        or by_terms(kernel, dtype, case, failure.results)
        or _attempt(_looks_ahead, kernel, dtype, failure)
        or _attempt(locations.by_place, kernel, dtype, failure)
    )


def _looks_ahead(kernel, dtype, failure):
    """Whether a wrong output changes with tokens after it."""
    case, half = failure.problem, failure.problem.time // 2
    before = failure.results[0][:, :, :half]
    if failure.difference.what != "out" or not half or not np.isfinite(before).all():
        return None
    later = (np.concatenate([x[:, :, :half], x[:, :, half:] + 1], axis=2) for x in case.inputs[:3])
    out, _ = kernel.run(Problem(*later, *case.inputs[3:]), dtype)
    if difference("out", out[:, :, :half], before, kernel.tolerance(dtype)) is None:
        return None
    return "not causal", f"outputs before token {half} change with what comes after"


def _unwritten(kernel, dtype, case):
    """Results that hold NaN only where memory that nobody wrote to reads as NaN."""
    results = kernel.run(case, dtype)
    with kernel.library.poisoned():
        poisoned = kernel.run(case, dtype)
    for got, other in zip(poisoned, results, strict=True):
        if got is not None and np.isnan(got).sum() > np.isnan(other).sum():
            return "uninitialised memory", "a result holds memory that the kernel never wrote to"
    return None


def _of_short_texts(failure):
    return "short texts", f"{failure.difference.what} is wrong at T = {failure.problem.time}, and right at T = 200"


def _remembers(kernel, dtype):
    """A call that goes wrong because of the one before it, which had the same sizes and other decays."""
    first, second = (
        kernel.problem(dtype, 1, 3, 37, 5, 7, gamma=gamma, seed=seed, with_state=with_state)
        for seed, (gamma, with_state) in enumerate((((0.9, 0.5, 0.97), True), ((0.97, 0.9, 0.5), False)))
    )
    for place, case in enumerate((first, second, first)):
        try:
            kernel.right(case, dtype)
        except Failure as failure:
            if failure.difference is None or place == 0:
                return None
            return "stale buffer", "a call depends on the call before it: a table or a buffer is used again as it was"
    return None
