"""Checks a file at the command line, in the course and in a students' release."""

import re
from pathlib import Path

from ..harness.submission import UnusableError, collect
from .catalog import load
from .key import grade


def check_own(file, exercise=""):
    """Return (`Report`, notes) for the functions in `file`, with every check available here.

    exercise: its name; by default the file's name begins with it. UnusableError if the file cannot be
    checked, ValueError for an unknown exercise.
    """
    file = Path(file)
    if not exercise:
        match = re.match(r"ex\d\d", file.name)
        if match is None:
            raise UnusableError(
                f"{file.name} does not begin with the name of an exercise: rename it or add --exercise ex01"
            )
        exercise = match.group()
    wanted = load(exercise)
    submission = collect(file, [problem.function for problem in wanted.problems])
    return grade(wanted, submission.namespace), submission.notes
