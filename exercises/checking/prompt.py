"""Checking a file of one's own at the prompt, in the course and in a students' release."""

import re
from pathlib import Path

from ..harness.submission import UnusableError, collect
from .catalog import load
from .key import grade


def check_own(file, exercise=""):
    """Return (`Report`, notes) for the functions in `file`, with every check there is here.

    exercise: its name; by default the one that the name of the file begins with. UnusableError if the
    file cannot be checked, ValueError for an exercise that is not there.
    """
    file = Path(file)
    if not exercise:
        match = re.match(r"ex\d\d", file.name)
        if match is None:
            raise UnusableError(f"which exercise {file.name} answers is not in its name: add --exercise ex01")
        exercise = match.group()
    wanted = load(exercise)
    submission = collect(file, [problem.function for problem in wanted.problems])
    return grade(wanted, submission.namespace), submission.notes
