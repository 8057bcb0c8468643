"""Runs a submitted function and returns whatever it does as plain data, a `Run`.

The isolated grader loads this module into the process that runs student code, so it imports nothing of the course
and knows no answer.
"""

import builtins
import contextlib
import io
import re
import sys
import types
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

# Bound at import, so a submission that replaces NumPy's functions changes nothing.
_ndarray, _float64 = np.ndarray, np.float64
_catch_warnings, _simplefilter, _errstate = warnings.catch_warnings, warnings.simplefilter, np.errstate

MOST_NUMBERS = 1_000_000  # in one output: far more than any check needs, far less than would do harm
LONGEST_LINE = 240  # of a message that comes from the student's code
MOST_PRINTED = 2000  # characters kept of what one call prints
NO_INPUT = "nobody answers input() in a check: take the values from the arguments"


@dataclass(frozen=True, eq=False)
class Run:
    """What one call gave, as plain data.

    outputs: float64 arrays, as many as were returned. inputs: the arrays passed in, as they were after the call.
    failure: why there are no outputs, one line, and where: the line of the student's code, if known.
    written: False if the function is still the stub. by_grader: the grader wrote the failure's text.
    calls: which functions of the exercise the code mentions, itself or through others of the submission. printed: what the
    call printed, shortened; it does not leave a sandbox.
    """

    outputs: tuple[np.ndarray, ...] = ()
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    failure: str = ""
    where: str = ""
    written: bool = True
    by_grader: bool = False
    calls: tuple[str, ...] = ()
    printed: str = ""


def find_and_run(namespace, function, inputs, returns, functions=()):
    """Return the `Run` of the function that `namespace` (a dict) holds under the name `function`.

    functions: the names of the exercise's functions, of which `Run.calls` says which this one uses.
    """
    if function not in namespace:
        return missing(function)
    calls = called(namespace, function, functions)
    return replace(run(namespace[function], inputs, returns), calls=calls)


def called(namespace, function, functions):
    """Return which of `functions` (names) the code of `function` mentions, itself or through others; also one not defined.

    >>> names = {}
    >>> exec("one = lambda: two(); two = lambda: three() + four()", names)
    >>> called(names, "one", ["one", "two", "three"])
    ('two', 'three')
    """
    first = namespace.get(function)
    if type(first) is not types.FunctionType:
        return ()
    own, mentioned, codes = first.__globals__, set(), [first.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if type(constant) is types.CodeType]
        new = set(code.co_names) - mentioned
        mentioned |= new
        helpers = [own[name] for name in new if type(own.get(name)) is types.FunctionType]
        codes += [helper.__code__ for helper in helpers if helper.__globals__ is own]
    # The same object under the same name: a helper that only shares its name is not the one that is checked.
    return tuple(name for name in functions if name in mentioned - {function} and own.get(name) is namespace.get(name))


def missing(function):
    """Return the `Run` of a function that is not there."""
    failure = f"{function} is not defined: write it, and in a notebook run its cell"
    return Run(failure=failure, written=False, by_grader=True)


def run(function, inputs, returns):
    """Call `function` with fresh copies of `inputs`, in order, and return a `Run`.

    returns: the names of what it should return, for the messages. A NumPy operation that overflows is an error. Unless
    the function ends the process, whatever it does comes back as data. Only KeyboardInterrupt passes through, so that a
    learner can stop an endless loop.
    """
    printed = _Printed()
    return replace(_run(function, inputs, returns, printed), printed=printed.text())


def _run(function, inputs, returns, printed):
    inputs = {name: value.copy() if type(value) is _ndarray else value for name, value in inputs.items()}
    try:
        with (
            contained(printed),
            _errstate(over="raise"),
        ):  # a number too large is a mistake even where it is masked later
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
    except BaseException as error:  # also SystemExit, which must not end the checks
        return Run(failure=describe_error(error), where=_where(error, function))
    return Run(outputs, inputs)


@contextlib.contextmanager
def contained(printed=None):
    """Keep output in `printed`, by default nowhere, drop warnings, and refuse input, which nobody would see being asked for."""
    printed = _Printed() if printed is None else printed
    stdin, asks = sys.stdin, builtins.input
    sys.stdin, builtins.input = _NoInput(), _NoInput().readline  # a notebook has an input of its own
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), _catch_warnings():
            _simplefilter("ignore")
            yield
    finally:
        sys.stdin, builtins.input = stdin, asks


class _Printed(io.TextIOBase):
    """Keeps the beginning of what is printed, and how much more there was."""

    def __init__(self):
        self._kept, self._length = "", 0

    def write(self, text):
        self._kept += text[: MOST_PRINTED - len(self._kept)]
        self._length += len(text)
        return len(text)

    def text(self):
        """Return it as printable lines."""
        more = self._length - len(self._kept)
        lines = (line.expandtabs().rstrip() for line in self._kept.rstrip("\n").split("\n"))
        text = "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)
        return text + (f"… ({several(more, 'character')} more)" if more else "")


class _NoInput(io.TextIOBase):
    """A standard input that nobody answers."""

    def readline(self, *_):
        raise EOFError(NO_INPUT)

    read = readline


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


def several(number, noun):
    """Return the number and the noun, in the plural unless it is one.

    >>> several(1, "point"), several(0, "point"), several(7.50, "point")
    ('1 point', '0 points', '7.5 points')
    """
    return f"{number:.10g} {noun}{'' if number == 1 else 's'}"


class _RefusedError(Exception):
    """The function did not return what was asked for; the message says why."""


def _outputs(result, returns):
    """Return the plain arrays of `result`, which must be a tuple if there are several names."""
    if len(returns) == 1:
        return (_plain(returns[0], result),)
    if type(result) is not tuple:
        came = "None (is the return missing?)" if result is None else type(result).__name__
        raise _RefusedError(f"it must return a tuple of {len(returns)} arrays, {', '.join(returns)}; got {came}")
    # Extra outputs are kept under a number, because `judge` says how many came.
    names = (*returns, *(f"output {n}" for n in range(len(returns), len(result))))
    return tuple(_plain(name, value) for name, value in zip(names, result, strict=False))


def _plain(name, value):
    """Return a float64 copy of `value`, a real floating NumPy array. Subclasses are refused: they can fake comparisons."""
    if type(value) is not _ndarray:
        raise _RefusedError(f"{name} must be a NumPy array, got {type(value).__name__}")
    if value.dtype.kind != "f":
        raise _RefusedError(f"{name} must hold real floating-point numbers, got dtype {value.dtype}")
    if value.size > MOST_NUMBERS:
        raise _RefusedError(f"{name} has shape {value.shape}: far too many numbers")
    return value.astype(_float64)


def _message(error):
    """Return the first line of the error's message; its __str__ is the student's code and may fail."""
    try:
        return one_line("" + str(error))
    except Exception:
        return "(its message cannot be shown)"


def _where(error, function):
    """Return "line 3 of name": the innermost line that ran in the namespace the function was defined in.

    A line inside a comprehension counts as one of the function around it.
    """
    found, trace, code = "", error.__traceback__, None
    namespace = getattr(function, "__globals__", None) if type(function) is type(_where) else None
    while trace is not None:
        if trace.tb_frame.f_globals is namespace:
            if code is None or not trace.tb_frame.f_code.co_name.startswith("<"):
                code = trace.tb_frame.f_code
            found = f"line {trace.tb_lineno - code.co_firstlineno + 1} of {code.co_name}"
        trace = trace.tb_next
    return found
