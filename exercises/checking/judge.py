"""Compares a `Run` with the answer key. Only data is compared, so no student code is called.

The notebook, the students' release and the isolated grader all use this module.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..harness.runner import Run, several
from .core import Check

# Bound at import, so a submission that replaces NumPy's functions does not affect the verdict. The comparison itself
# uses operators and methods of arrays, which cannot be replaced.
_ndarray, _float32, _float64 = np.ndarray, np.float32, np.float64
_errstate, _unravel_index, _infinity = np.errstate, np.unravel_index, np.inf

FLOAT32 = (
    "your numbers are float32, which has seven digits: make arrays with the default dtype, float64, and compute in it"
)
FLOAT32_ERROR = 1e-5  # more than the rounding of float32 adds up to in any check


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

    hint: the check's, if it fits the reason. mistake: the name of the wrong answer it is, or "". written: False if the
    function is a stub or missing. printed: what the call printed; it is shown and not judged.
    """

    check: Check
    reason: str = ""
    hint: str = ""
    mistake: str = ""
    written: bool = True
    printed: str = ""

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


def judge(check, answers, got, likely=None):
    """Compare the `Run` of a student's function with the `Answers` of a visible check and return a `Result`.

    If a check fails with the outputs (or the error) of a wrong answer, the reason is that answer's message. Of several
    such wrong answers it is the one that stands highest in `likely` (see `likelihoods`), and none that is not above 0.
    """
    if answers.wanted.failure:  # for example because a cell replaced functions of NumPy
        return Result(check, f"the check itself fails, restart and try again: {answers.wanted.failure}")
    if not got.written:
        return Result(check, got.failure or "not written yet", written=False)
    reason = difference(check, answers, got)
    if not reason:
        return Result(check)
    likely = {name: 1 for name, _, _ in answers.mistakes} if likely is None else likely
    made = [one for one in answers.mistakes if likely[one[0]] > 0 and _same(check, one[2], got)]
    if made:
        name, message, _ = max(made, key=lambda one: likely[one[0]])
        return Result(check, message, mistake=name)
    if _rounded_to_float32(check, answers, got):
        return Result(check, FLOAT32, mistake="float32")
    # How to leave arguments alone helps nobody whose function gave no answer.
    fits = not (check.keeps_inputs and _no_answer(check, answers.returns, got))
    return Result(check, reason, check.hint if fits else "")


def judge_hidden(check, answers, got, seen):
    """Return the `Result` of a hidden check, which takes from `got` whether it passes, and nothing else.

    seen: the results of the function's visible checks, which ran before any hidden one. They choose among few sentences of
    ours, so a submission that put hidden inputs into its answers, its errors or its mistakes would move no letter.
    """
    if answers.wanted.failure:
        return judge(check, answers, got)
    if got.written and not difference(check, answers, got):
        return Result(check)
    if seen and not any(one.written for one in seen):
        stub = re.fullmatch(r"not written yet: see Eq\. [0-9]{1,2}", seen[0].reason)
        return Result(check, seen[0].reason if stub else "not written yet", written=False)
    told = {one.reason: one for one in seen if not one.passed}
    if len(told) == 1:
        (one,) = told.values()
        if one.mistake:
            return replace(one, check=check, hint="")
    return Result(check, f"it fails here: the call was {_call(check)} (a hidden check shows nothing else)", check.hint)


def mend_first(result, got, earlier, function):
    """Return the `Result`, with another reason if the check failed and `function` calls an earlier one that fails its own.

    result: of a visible check. got: the `Run`. earlier: the results of the problems before, by function. No other diagnosis
    is given then, because the error may be in either. Hidden checks of the earlier ones do not count.
    """
    for name, results in earlier.items():
        judged = [one for one in results if not one.check.hidden]
        if result.passed or name not in got.calls or all(one.passed for one in judged):
            continue
        if any(one.written for one in judged):
            reason = f"mend {name} first: {function} calls it, and its own checks fail"
        else:
            reason = f"write {name} first: {function} calls it"
        return replace(result, reason=reason, hint="", mistake=f"calls {name}")
    return result


def likelihoods(judged):
    """Return {mistake: in how many checks `got` is that wrong answer, less those in which it is not}.

    judged: (check, answers, got) of each check of one function. In one check an answer may agree with a mistake by chance.
    """
    score = Counter()
    for check, answers, got in judged:
        for name, _, mistaken in answers.mistakes:
            score[name] += 1 if _same(check, mistaken, got) else -1
    return score


def difference(check, answers, got):
    """Return in one line why `got` fails the check, or "". A check of the arguments judges them alone, not the values."""
    reason = _no_answer(check, answers.returns, got)
    if reason or check.keeps_inputs:
        return reason or _changed(check, got)
    for name, output, target in zip(answers.returns, got.outputs, answers.wanted.outputs, strict=True):
        if output.shape != target.shape:
            return f"{name} must have shape {target.shape}, got {output.shape}"
        at = _first_difference(output, target, check.tolerance)
        if at is not None:
            return _wrong_value(name, at, output.ravel().tolist()[at], target.ravel().tolist()[at], target.shape)
    return ""


def _no_answer(check, returns, got):
    """Return why the call gave no arrays to judge, or ""."""
    if got.failure:
        return got.failure if got.by_grader else _failure(check, got)
    if len(got.outputs) != len(returns):
        return f"it must return {several(len(returns), 'array')}, {', '.join(returns)}; got {len(got.outputs)}"
    return ""


def _failure(check, got):
    """Return the failure as a sentence: for an error where it was raised, which it is, and what the call was."""
    if re.fullmatch(r"[A-Za-z_]\w*(: .*)?", got.failure):  # an error; other failures are sentences already
        return f"{got.where or 'it'} raised {got.failure}; the call was {_call(check)}"
    return got.failure


def _call(check):
    """Return the arguments in words: arrays by their shape, None as None, and numbers by value unless the check is hidden."""
    words = []
    for name, value in check.inputs.items():
        if type(value) is _ndarray:
            words.append(f"{name} {value.shape}")
        else:
            words.append(name if check.hidden and value is not None else f"{name} {value}")
    return ", ".join(words)


def _changed(check, got):
    """Return in one line which arguments the call changed, or ""."""
    arrays = {name: value.astype(_float64) for name, value in check.inputs.items() if type(value) is _ndarray}
    changed = [name for name, before in arrays.items() if not _agree(got.inputs.get(name), before, 0.0)]
    if not changed:
        return ""
    plural = "s" if len(changed) > 1 else ""
    return f"the call changed its argument{plural} {' and '.join(changed)}: leave the caller's arrays as they are"


def _wrong_value(name, at, value, target, shape):
    if value != value or value in (float("inf"), float("-inf")):
        return f"{name} holds {value}"
    index = f"[{', '.join(str(int(i)) for i in _unravel_index(at, shape))}]" if shape else ""
    digits = next(d for d in (6, 17) if f"{value:.{d}g}" != f"{target:.{d}g}" or d == 17)
    return f"{name}{index} is {value:.{digits}g}, wanted {target:.{digits}g}"


def _same(check, wrong, got):
    """Return whether `got` is what this wrong answer gives: the same arrays, or the same error."""
    if wrong.failure or got.failure:
        return _kind(wrong.failure) == _kind(got.failure)
    if len(wrong.outputs) != len(got.outputs):
        return False
    pairs = list(zip(got.outputs, wrong.outputs, strict=True))
    if check.keeps_inputs:
        pairs += [(got.inputs.get(name), value) for name, value in wrong.inputs.items()]
    return all(_agree(a, b, check.tolerance) for a, b in pairs)


def _rounded_to_float32(check, answers, got):
    """Return whether the error is that of float32: everything is near, and one wrong output holds float32 numbers."""
    if check.keeps_inputs or _no_answer(check, answers.returns, got):
        return False
    pairs = list(zip(got.outputs, answers.wanted.outputs, strict=True))
    if not all(_agree(came, wanted, FLOAT32_ERROR) for came, wanted in pairs):
        return False
    wrong = [came for came, wanted in pairs if not _agree(came, wanted, check.tolerance)]
    return any(_agree(came, _to_float32(came), 0.0) for came in wrong)


def _to_float32(array):
    with _errstate(all="ignore"):
        return array.astype(_float32).astype(_float64)


def _kind(failure):
    """Return the failure without what depends on how the mistake is written.

    Of shapes that do not fit only their set is kept, because a + b, b + a and a += b are one mistake; of an array too large
    nothing, because its type tells nothing about the mistake.
    """
    if failure.startswith("MemoryError: Unable to allocate "):
        return "MemoryError", set()
    kind, _, shapes = failure.partition("could not be broadcast together with shapes ")
    return kind, set(shapes.split())


def _agree(array, target, tolerance):
    return array is not None and array.shape == target.shape and _first_difference(array, target, tolerance) is None


def _first_difference(array, target, tolerance):
    """Return the flat index of the first number off by more than tolerance * max|target|, or None.

    NaN and infinities are off, unless the target has the same there: no solution does, but a wrong answer may.
    """
    with _errstate(all="ignore"):
        size = abs(target)
        most = tolerance * (size[size < _infinity].max(initial=0.0) or 1.0)
        near = (abs(array - target) <= most) | (array == target) | ((array != array) & (target != target))
    return None if near.all() else int(near.ravel().argmin())
