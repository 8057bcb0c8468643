"""Compares a `Run` with the answer key. Only data is compared, so no student code is called.

The notebook, the students' release and the isolated grader all use this module.
"""

import builtins
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..harness.runner import Run
from .core import Check

# Bound at import, so a submission that replaces NumPy's functions does not affect the verdict. The comparison itself
# uses Python floats.
_ndarray, _float64, _unravel_index = np.ndarray, np.float64, np.unravel_index


@dataclass(frozen=True, eq=False)
class Answers:
    """What is needed to judge one check: the wanted `Run`, and the `Run` of each mistake that fails it.

    returns: the names of what the function returns. mistakes: (name, message, Run) of each wrong answer
    that fails the check; a wrong answer that passes it is left out.
    """

    returns: tuple[str, ...]
    wanted: Run
    mistakes: tuple[tuple[str, str, Run], ...] = ()


@dataclass(frozen=True, eq=False)
class Result:
    """The verdict on one check. It passed if `reason` is empty.

    mistake: the name of the wrong answer it is, or "". written: False if the function is a stub or missing.
    """

    check: Check
    reason: str = ""
    mistake: str = ""
    written: bool = True

    @property
    def passed(self):
        """Return whether the check passed."""
        return not self.reason

    @property
    def points(self):
        """Return the points earned."""
        return self.check.points if self.passed else 0


@dataclass(frozen=True, eq=False)
class Report:
    """The results of the problems of exercise `name` that were checked, and the points of the checks that were not run."""

    name: str
    results: Mapping[str, tuple[Result, ...]]
    points_not_run: int

    @property
    def points(self):
        """Return the points earned."""
        return sum(result.points for results in self.results.values() for result in results)

    @property
    def most(self):
        """Return the most points possible in the checks that were run."""
        return sum(result.check.points for results in self.results.values() for result in results)

    @property
    def passed(self):
        """Return whether every check that was run passed."""
        return all(result.passed for results in self.results.values() for result in results)


def judge(check, answers, got):
    """Compare the `Run` of a student's function with the `Answers` and return a `Result`.

    If a check fails with the outputs (or the error) of a wrong answer, the reason is that answer's message.
    """
    if answers.wanted.failure:  # for example because a cell replaced functions of NumPy
        return Result(check, f"the check itself fails, restart and try again: {answers.wanted.failure}")
    if not got.written:
        told = not check.hidden or got.by_grader or re.fullmatch(r"not written yet: see Eq\. \d\d?", got.failure)
        return Result(check, got.failure if told and got.failure else "not written yet", written=False)
    reason = difference(check, answers, got)
    if reason:
        for name, message, mistaken in answers.mistakes:
            if _same(check, mistaken, got):
                return Result(check, message, name)
    return Result(check, reason)


def difference(check, answers, got):
    """Return in one line why `got` fails the check, or "".

    The reason of a hidden check contains no text and no number that the submission could choose, because it
    could put the hidden inputs there.
    """
    returns = answers.returns
    if got.failure:
        if check.hidden and not got.by_grader:
            return _without_values(got.failure, returns)
        return got.failure + (f" ({got.where})" if got.where else "")
    if len(got.outputs) != len(returns):
        came = "another number of them" if check.hidden else len(got.outputs)
        return f"it must return {len(returns)} arrays, {', '.join(returns)}; got {came}"
    for name, output, target in zip(returns, got.outputs, answers.wanted.outputs, strict=True):
        if output.shape != target.shape:
            return f"{name} must have shape {target.shape}, got {'another' if check.hidden else output.shape}"
        at = _first_difference(output, target, check.tolerance)
        if at is not None:
            return _wrong_value(name, at, output.ravel().tolist()[at], target.ravel().tolist()[at], check, target.shape)
    if check.keeps_inputs:
        for name, before in check.inputs.items():
            if type(before) is _ndarray and not _agree(got.inputs.get(name), before.astype(_float64), 0.0):
                return f"the call changed its argument {name}: leave the caller's arrays as they are"
    return ""


def _without_values(failure, returns):
    """Return what may be shown of a failure in a hidden check: the kind of error, in our own words."""
    for kind in (
        *(f"{name} must be a NumPy array" for name in returns),
        *(f"{name} must hold real floating-point numbers" for name in returns),
        f"it must return a tuple of {len(returns)} arrays",
        "it must be a function",
    ):
        if failure.startswith(kind):
            return kind
    name = failure.partition(":")[0]
    if name.isidentifier() and isinstance(getattr(builtins, name, None), type):
        return f"it raised {name} (the message of an error in a hidden check is not shown)"
    return "it failed (the message of an error in a hidden check is not shown)"


def _wrong_value(name, at, value, target, check, shape):
    if value != value or value in (float("inf"), float("-inf")):
        return f"{name} holds {value}"
    if check.hidden:
        return f"{name} has the right shape, but other values than wanted"
    index = ", ".join(str(int(i)) for i in _unravel_index(at, shape))
    digits = next(d for d in (6, 17) if f"{value:.{d}g}" != f"{target:.{d}g}" or d == 17)
    return f"{name}[{index}] is {value:.{digits}g}, wanted {target:.{digits}g}"


def _same(check, wrong, got):
    """Return whether `got` is what this wrong answer gives: the same arrays, or the same error."""
    if wrong.failure or got.failure:
        return wrong.failure == got.failure
    if len(wrong.outputs) != len(got.outputs):
        return False
    pairs = list(zip(got.outputs, wrong.outputs, strict=True))
    if check.keeps_inputs:
        pairs += [(got.inputs.get(name), value) for name, value in wrong.inputs.items()]
    return all(_agree(a, b, check.tolerance) for a, b in pairs)


def _agree(array, target, tolerance):
    return array is not None and array.shape == target.shape and _first_difference(array, target, tolerance) is None


def _first_difference(array, target, tolerance):
    """Return the flat index of the first number off by more than tolerance * max|target|, or None; NaN is off."""
    pairs = list(zip(array.ravel().tolist(), target.ravel().tolist(), strict=True))
    scale = max((abs(wanted) for _, wanted in pairs), default=0.0) or 1.0
    return next((i for i, (came, wanted) in enumerate(pairs) if not abs(came - wanted) <= tolerance * scale), None)
