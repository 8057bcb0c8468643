"""What an exercise is: functions to write, the checks on them, their solutions and the mistakes that have a name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


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
