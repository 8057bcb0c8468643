"""The commands `python -m exercises list` and `check`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ..harness.cells import UnusableError
from ..harness.runner import several
from .catalog import exercise_names, load, misnamed
from .key import choose
from .prompt import check_own
from .report import SIGNS, styled_lines

# White on the signs' own colours, to be read in a light terminal and in a dark one.
STYLES = {"bold": "bold", "plain": ""} | {mark: f"bold #ffffff on {colour}" for mark, (_, colour) in SIGNS.items()}
Names = Annotated[
    list[str] | None, typer.Option("--exercise", help="One exercise, such as ex01; may be repeated. Default: all.")
]


def list_exercises():
    """List the exercises, their functions and points."""
    for name in exercise_names():
        exercise = load(name)
        points = sum(problem.points for problem in exercise.problems)
        functions = ", ".join(problem.function for problem in exercise.problems)
        typer.echo(f"{name}  {exercise.title} ({functions}; {several(points, 'point')})")
    for path in misnamed():
        typer.echo(f"{path} is left out: its name must be ex and two digits, such as ex42.py", err=True)


def check(
    file: Annotated[Path, typer.Argument(help="Your notebook (.ipynb) or script (.py).")],
    exercise: Annotated[str, typer.Option(help="Which exercise, such as ex01. Default: as FILE's name says.")] = "",
):
    """Check the functions in FILE, hidden checks included, and show the points.

    This runs the code in FILE on this machine, with your rights: use it for your own work, not for
    files of people you do not know; `grade` is for those. Of the file only the functions and the imports,
    definitions and assignments they need are run.

    Exit code: 0 everything passes, 1 something does not, 2 the file cannot be checked.
    """
    try:
        report, notes = check_own(file, exercise)
    except (UnusableError, ValueError) as error:
        refuse(f"Cannot check: {error}")
    console = Console(highlight=False)
    for line in styled_lines(report, console.width):
        console.print(Text.assemble(*((text, STYLES[style]) for text, style in line)), soft_wrap=True)
    for note in notes:
        console.print(Text(f"Note: {note}"), soft_wrap=True)
    raise typer.Exit(0 if report.passed else 1)


def chosen_exercises(names):
    """The names of exercises that --exercise gave, or all; ValueError for one that there is not."""
    return [choose("exercise", name, exercise_names()) for name in names or exercise_names()]


def refuse(message):
    """Print why a command cannot start, and end the program with exit code 2."""
    typer.echo(message, err=True)
    raise typer.Exit(2) from None
