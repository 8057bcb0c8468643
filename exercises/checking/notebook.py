"""`check` and `points` for notebooks. They look up functions by name where they are called."""

import sys

from .catalog import load
from .key import grade
from .report import plain_text, to_html


def check(exercise, problem=None):
    """Run the visible checks of `exercise` on your functions and show what passed, with a hint for what did not.

    The functions are looked up by name where check is called. problem: the name of one function, to
    check that one alone. ValueError for an unknown exercise or problem.

    >>> check("ex01", "retention_step")
    retention_step: 0 of 5 points
      result  check       what to change
      todo    all checks  retention_step is not defined: write it, and in a notebook run its cell
    <BLANKLINE>
    0 of 5 points in the visible checks of ex01. 3 points more are in hidden checks: where the course is installed, python -m exercises check FILE runs them too.
    """
    _show(grade(load(exercise), _names(sys._getframe(1)), hidden=False, only=problem))


def points(exercise, problem):
    """Return the points of one function in all checks available here, for nbgrader's test cells.

    >>> points("ex01", "retention_step")
    0
    """
    return grade(load(exercise), _names(sys._getframe(1)), only=problem).points


def _names(frame):
    return {**frame.f_globals, **frame.f_locals}


def _show(report):
    """Display a table in IPython; print text elsewhere."""
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(plain_text(report))
    else:
        from IPython.display import display

        display({"text/html": to_html(report), "text/plain": plain_text(report)}, raw=True)
