"""What an exercise is: functions to write, the checks on them, their solutions and named mistakes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Check:
    """One call and how to compare what it gives; the wanted answer is the solution's.

    inputs: argument names, in order, to float arrays, floats, integers or None. hint: one line, shown when the check fails.
    tolerance: the largest error allowed, relative to the largest wanted value of the same output.
    keeps_inputs: demand only that the call leaves every array it was given as it was, whatever its values are.
    hidden: run by the grader, not by `check` in the notebook; it tells whether it passes, and no more.
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
    """A named mistake: a function that makes it, and the line shown to a student who made it."""

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


def problem(solution, returns, *, visible, hidden, wrong_answers):
    """Return the `Problem` of writing `solution`, from three tables.

    visible, hidden: {name of the check: (inputs, hint)}; a third entry may hold other fields of `Check`.
    wrong_answers: {name of the mistake: (function, message)}.
    """
    checks = tuple(
        Check(name, inputs, hint, hidden=table is hidden, **(more[0] if more else {}))
        for table in (visible, hidden)
        for name, (inputs, hint, *more) in table.items()
    )
    mistakes = tuple(WrongAnswer(name, function, message) for name, (function, message) in wrong_answers.items())
    return Problem(solution.__name__, returns, solution, checks, mistakes)


@dataclass(frozen=True, eq=False)
class Exercise:
    """Problems under one name ("ex01") and title."""

    name: str
    title: str
    problems: tuple[Problem, ...]
