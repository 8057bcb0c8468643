"""The command line: python -m exercises list | check FILE."""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from . import exercise_names, load
from .key import grade
from .report import styled_lines
from .submission import UnusableError, collect

STYLES = {"bold": "bold", "plain": "", "ok": "green", "FAIL": "red", "todo": "yellow"}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check your work on the exercises of the course.",
)


@app.command("list")
def list_exercises():
    """List the exercises, their functions and points."""
    for name in exercise_names():
        exercise = load(name)
        points = sum(problem.points for problem in exercise.problems)
        functions = ", ".join(problem.function for problem in exercise.problems)
        typer.echo(f"{name}  {exercise.title} ({functions}; {points} points)")


@app.command("check")
def check_file(
    file: Annotated[Path, typer.Argument(help="Your notebook (.ipynb) or script (.py).")],
    exercise: Annotated[str, typer.Option(help="Which exercise, such as ex01. Default: as FILE begins.")] = "",
):
    """Check the functions in FILE, hidden checks included, and show the points.

    This runs the code in FILE on this machine, with your rights: use it for your own work, not for
    files of people you do not know. Of the file only the functions and the imports, definitions and
    assignments they need are run.

    Exit code: 0 everything passes, 1 something does not, 2 the file cannot be checked.
    """
    try:
        wanted = load(exercise or _named_by(file))
        submission = collect(file, [problem.function for problem in wanted.problems])
    except (UnusableError, ValueError) as error:
        typer.echo(f"Cannot check: {error}", err=True)
        raise typer.Exit(2) from None
    report = grade(wanted, submission.namespace)
    console = Console(highlight=False)
    for line, style in styled_lines(report, console.width):
        console.print(Text(line, STYLES[style]), soft_wrap=True)
    for note in submission.notes:
        console.print(Text(f"Note: {note}"), soft_wrap=True)
    raise typer.Exit(0 if report.passed else 1)


def _named_by(file):
    match = re.match(r"ex\d\d", file.name)
    if match is None:
        raise UnusableError(f"which exercise {file.name} answers is not in its name: add --exercise ex01")
    return match.group()


if __name__ == "__main__":
    app(prog_name="python -m exercises")
