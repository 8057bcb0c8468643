"""What an exercise is, and the one way to run a function and judge what it gave.

`run` calls a function and returns a `Run`: plain arrays and strings, nothing of the caller's own
objects. `judge` compares a `Run` with those of the solution and of the wrong answers, without
calling the student's function. So the two may live in different processes.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

# What decides over right and wrong is bound here, once: a submission that replaces numpy's functions
# changes nothing. The comparison itself is arithmetic on Python floats.
_ndarray, _float64, _unravel_index = np.ndarray, np.float64, np.unravel_index
_catch_warnings, _simplefilter = warnings.catch_warnings, warnings.simplefilter

MOST_NUMBERS = 1_000_000  # in one output: far above any check's, far below what hurts
LONGEST_LINE = 240  # of a message that comes from the student's code


@dataclass(frozen=True, eq=False)
class Check:
    """One call and how to compare what it gives; the wanted answer is the solution's.

    inputs: argument names, in order, to float arrays, floats, integers or None. hint: one line for whoever fails.
    tolerance: the largest error allowed, relative to the largest wanted value of the same output.
    keeps_inputs: also demand that the call leaves every array it was given as it was.
    hidden: run by the grader, not by `check` in the notebook; its message shows no values.
    """

    name: str
    inputs: Mapping[str, np.ndarray | float | int | None]
    hint: str
    tolerance: float = 1e-10
    keeps_inputs: bool = False
    hidden: bool = False
    points: int = 1


@dataclass(frozen=True, eq=False)
class WrongAnswer:
    """A mistake with a name: a function that makes it, and the one line that tells whoever made it."""

    name: str
    function: Callable
    message: str


@dataclass(frozen=True, eq=False)
class Problem:
    """A function to write: its name, what it returns by name, its checks, solution and wrong answers."""

    function: str
    returns: tuple[str, ...]
    solution: Callable
    checks: tuple[Check, ...]
    wrong_answers: tuple[WrongAnswer, ...]

    @property
    def points(self):
        """Return the points of all checks, hidden ones too."""
        return sum(check.points for check in self.checks)


@dataclass(frozen=True, eq=False)
class Exercise:
    """Problems under one name ("ex01") and title."""

    name: str
    title: str
    problems: tuple[Problem, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """What one call gave, as plain data.

    outputs: float64 arrays, as many as came. inputs: the arrays passed in, as they were after the call.
    failure: why there are no outputs, one line, and where: the line of the student's code, if known.
    written: False if the function is still the stub.
    """

    outputs: tuple[np.ndarray, ...] = ()
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    failure: str = ""
    where: str = ""
    written: bool = True


@dataclass(frozen=True, eq=False)
class Result:
    """The verdict on one check: passed if there is no reason against it.

    mistake: the name of the wrong answer it is, or "". written: False if the function is a stub or missing.
    """

    check: Check
    reason: str = ""
    mistake: str = ""
    written: bool = True

    @property
    def passed(self):
        """Return whether nothing speaks against the check."""
        return not self.reason

    @property
    def points(self):
        """Return the points earned."""
        return self.check.points if self.passed else 0


@dataclass(frozen=True, eq=False)
class Report:
    """The results of every problem that was checked, and the points of the checks that were not run."""

    exercise: Exercise
    results: Mapping[str, tuple[Result, ...]]
    points_not_run: int

    @property
    def points(self):
        """Return the points earned."""
        return sum(result.points for results in self.results.values() for result in results)

    @property
    def most(self):
        """Return the points to be had in the checks that were run."""
        return sum(result.check.points for results in self.results.values() for result in results)

    @property
    def passed(self):
        """Return whether every check that was run passed."""
        return all(result.passed for results in self.results.values() for result in results)


def grade(exercise, namespace, *, hidden=True, only=None):
    """Check the functions of `namespace` (a dict), found by name, in this process; return a `Report`.

    hidden: run the hidden checks too. only: the name of one function, to leave the others out.
    The student's code runs here, with all rights: for one's own work.
    """
    results, points_not_run = {}, 0
    for problem in exercise.problems:
        if only in (None, problem.function):
            checks = [check for check in problem.checks if hidden or not check.hidden]
            points_not_run += problem.points - sum(check.points for check in checks)
            results[problem.function] = tuple(
                judge(problem, check, find_and_run(namespace, problem, check)) for check in checks
            )
    return Report(exercise, results, points_not_run)


def find_and_run(namespace, problem, check):
    """Return the `Run` of one check on the function that `namespace` holds under the problem's name."""
    if problem.function not in namespace:
        return Run(
            failure=f"{problem.function} is not defined: write it, and in a notebook run its cell", written=False
        )
    return run(namespace[problem.function], check.inputs, problem.returns)


def run(function, inputs, returns):
    """Call `function` with fresh copies of `inputs`, in order, and return a `Run`.

    returns: the names of what it should return, for the messages. Whatever the function does short of
    ending the process comes back as data; only KeyboardInterrupt passes through, so that a learner can
    stop an endless loop.
    """
    inputs = {name: value.copy() if type(value) is _ndarray else value for name, value in inputs.items()}
    try:
        with contained():
            if not callable(function):
                raise _RefusedError(f"it must be a function, got {type(function).__name__}")
            outputs = _outputs(function(*inputs.values()), returns)
            inputs = {name: _plain(name, value) for name, value in inputs.items() if type(value) is _ndarray}
    except KeyboardInterrupt:
        raise
    except NotImplementedError as error:
        what = re.sub(r"^ex\d\d: ", "", _message(error))
        return Run(failure=f"not written yet: {what}" if what else "not written yet", written=False)
    except _RefusedError as error:
        return Run(failure=_message(error))
    except BaseException as error:  # SystemExit and the like are mistakes too, not ends
        return Run(failure=describe_error(error), where=_where(error, function))
    return Run(outputs, inputs)


def judge(problem, check, got):
    """Compare the `Run` of a student's function with the solution's and return a `Result`.

    A failed check whose outputs (or error) are those of a wrong answer gets that one's message.
    """
    if not got.written:
        return Result(check, got.failure or "not written yet", written=False)
    wanted = run(problem.solution, check.inputs, problem.returns)
    if wanted.failure:  # as when a cell has replaced functions of numpy
        return Result(check, f"the check itself fails, restart and try again: {wanted.failure}")
    reason = _reason(problem, check, wanted, got)
    if reason:
        for wrong in problem.wrong_answers:
            mistaken = run(wrong.function, check.inputs, problem.returns)
            # Where the mistake happens to give the right answer it explains nothing.
            if _reason(problem, check, wanted, mistaken) and _same(check, mistaken, got):
                return Result(check, wrong.message, wrong.name)
    return Result(check, reason)


@contextlib.contextmanager
def contained():
    """Drop what is printed or warned: it is nobody's answer, and a report must stay readable."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _catch_warnings():
        _simplefilter("ignore")
        yield


def describe_error(error):
    """Return "Type: message" on one line, whatever the error's own methods do."""
    try:
        name = type(error).__name__ + ""
    except Exception:
        name = "an error"
    message = _message(error)
    return f"{name}: {message}" if message else name


def one_line(text):
    """Return the first line of `text` with something on it, printable and of bounded length.

    >>> one_line("  \\n \\x1b[31mred \\nmore")
    '[31mred'
    """
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = "".join(c if c.isprintable() else " " for c in line).strip()
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"


class _RefusedError(Exception):
    """What came back is not what was asked for; the message says why."""


def _outputs(result, returns):
    """Return the plain arrays of `result`; a tuple is wanted where there are several names."""
    if len(returns) == 1:
        return (_plain(returns[0], result),)
    if type(result) is not tuple:
        came = "None (is the return missing?)" if result is None else type(result).__name__
        raise _RefusedError(f"it must return a tuple of {len(returns)} arrays, {', '.join(returns)}; got {came}")
    # What comes too many is kept, under a number: judge counts.
    names = (*returns, *(f"output {n}" for n in range(len(returns), len(result))))
    return tuple(_plain(name, value) for name, value in zip(names, result, strict=False))


def _plain(name, value):
    """Return a float64 copy of `value`, a real floating NumPy array; subclasses are refused, for they may lie."""
    if type(value) is not _ndarray:
        raise _RefusedError(f"{name} must be a NumPy array, got {type(value).__name__}")
    if value.dtype.kind != "f":
        raise _RefusedError(f"{name} must hold real floating-point numbers, got dtype {value.dtype}")
    if value.size > MOST_NUMBERS:
        raise _RefusedError(f"{name} has shape {value.shape}: far too many numbers")
    return value.astype(_float64)


def _reason(problem, check, wanted, got):
    """Return in one line why `got` fails the check, or ""."""
    if got.failure:
        return got.failure + (f" ({got.where})" if got.where else "")
    if len(got.outputs) != len(problem.returns):
        return f"it must return {len(problem.returns)} arrays, {', '.join(problem.returns)}; got {len(got.outputs)}"
    for name, output, target in zip(problem.returns, got.outputs, wanted.outputs, strict=True):
        if output.shape != target.shape:
            return f"{name} must have shape {target.shape}, got {output.shape}"
        at = _first_difference(output, target, check.tolerance)
        if at is not None:
            return _wrong_value(name, at, output.ravel().tolist()[at], target.ravel().tolist()[at], check, target.shape)
    if check.keeps_inputs:
        for name, before in check.inputs.items():
            if type(before) is _ndarray and not _agree(got.inputs.get(name), before.astype(_float64), 0.0):
                return f"the call changed its argument {name}: leave the caller's arrays as they are"
    return ""


def _wrong_value(name, at, value, target, check, shape):
    if value != value or value in (float("inf"), float("-inf")):
        return f"{name} holds {value}"
    if check.hidden:
        return f"{name} has the right shape, but other values than wanted"
    index = ", ".join(str(int(i)) for i in _unravel_index(at, shape))
    digits = next(d for d in (6, 17) if f"{value:.{d}g}" != f"{target:.{d}g}" or d == 17)
    return f"{name}[{index}] is {value:.{digits}g}, wanted {target:.{digits}g}"


def _same(check, wrong, got):
    """Whether `got` is what this wrong answer gives: the same arrays, or the same error."""
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


def _message(error):
    """Return the first line of the error's message; its __str__ is the student's code and may fail."""
    try:
        return one_line("" + str(error))
    except Exception:
        return "(its message cannot be shown)"


def _where(error, function):
    """Return "line 3 of name": the innermost line that ran in the namespace the function was defined in."""
    found, trace = "", error.__traceback__
    namespace = getattr(function, "__globals__", None) if type(function) is type(_where) else None
    while trace is not None:
        code = trace.tb_frame.f_code
        if trace.tb_frame.f_globals is namespace:
            found = f"line {trace.tb_lineno - code.co_firstlineno + 1} of {code.co_name}"
        trace = trace.tb_next
    return found
