"""Checks a file at the command line, in the course and in a students' release."""

import re
from pathlib import Path

from ..harness.cells import UnusableError
from ..harness.submission import collect
from .catalog import load
from .key import grade


def check_own(file, exercise=""):
    """Return (`Report`, notes) for the functions in `file`, with every check available here.

    exercise: its name; by default as the file's name says. UnusableError if the file cannot be
    checked, ValueError for an unknown exercise.
    """
    file = Path(file)
    if not exercise:
        match = re.search(r"(?<![a-z])ex\d\d(?!\d)", file.name, re.IGNORECASE)
        if match is None:
            raise UnusableError(f"{file.name} does not name an exercise: rename it or add --exercise ex01")
        exercise = match.group().lower()
    wanted = load(exercise)
    submission = collect(file, [problem.function for problem in wanted.problems])
    return grade(wanted, submission.namespace), submission.notes
