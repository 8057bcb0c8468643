"""Exercises with checks that name the mistake: `check("ex01")` in a notebook, `python -m exercises` outside.

An exercise is one module `exNN.py` (its checks, hidden checks, solution and named wrong answers) and
one student notebook `exNN_*.ipynb`.
"""

import importlib
import pkgutil
import re
import sys

from refimpl.checks import check_choice

from .core import grade
from .report import plain_text, to_html

__all__ = ["check", "exercise_names", "load"]


def exercise_names():
    """Return the names of all exercises, in order.

    >>> exercise_names()[0]
    'ex01'
    """
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if re.fullmatch(r"ex\d\d", module.name))


def load(name):
    """Return the `Exercise` called `name`; ValueError for any other name.

    >>> [problem.function for problem in load("ex01").problems]
    ['retention_step', 'retention_loop']
    """
    check_choice("exercise", name, exercise_names())
    return importlib.import_module(f"{__name__}.{name}").EXERCISE


def check(exercise, problem=None):
    """Run the visible checks of `exercise` on your functions and show what passed, with a hint for what did not.

    The functions are looked up by name where check is called. problem: the name of one function, to
    check that one alone. ValueError for an unknown exercise or problem.

    >>> check("ex01", "retention_step")
    retention_step: 0 of 4 points
      todo  retention_step is not defined: write it, and in a notebook run its cell
    <BLANKLINE>
    0 of 4 points in the visible checks of ex01. There are 4 points more in hidden checks.
    """
    exercise = load(exercise)
    if problem is not None:
        check_choice("problem", problem, [one.function for one in exercise.problems])
    caller = sys._getframe(1)
    report = grade(exercise, {**caller.f_globals, **caller.f_locals}, hidden=False, only=problem)
    _show(report)


def _show(report):
    """Display a table where there is an IPython to do it, print otherwise."""
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(plain_text(report))
    else:
        from IPython.display import display

        display({"text/html": to_html(report), "text/plain": plain_text(report)}, raw=True)
