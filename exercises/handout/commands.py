"""The commands `python -m exercises release` and `autograder`."""

from pathlib import Path
from typing import Annotated

import typer

from ..checking.commands import Names, chosen_exercises, refuse
from .autograder import write_autograder
from .release import write_nbgrader, write_release


def release(
    out: Annotated[Path, typer.Argument(help="A folder that is new or empty.")],
    exercise: Names = None,
    nbgrader: Annotated[bool, typer.Option(help="Write the lecturer's notebooks for nbgrader instead.")] = False,
    classroom: Annotated[bool, typer.Option(help="Add a workflow that checks every push in GitHub Classroom.")] = False,
):
    """Write the students' version into OUT: no solution and no hidden check is in it.

    With --nbgrader OUT gets source/exNN/*.ipynb for `nbgrader generate_assignment`, which takes the
    hidden tests out again.
    """
    try:
        names = chosen_exercises(exercise)
        if nbgrader and classroom:
            raise ValueError("--nbgrader and --classroom exclude each other")
        written = write_nbgrader(out, names) if nbgrader else write_release(out, names, classroom)
    except (ValueError, OSError) as error:
        refuse(f"Cannot release: {error}")
    for path in written:
        typer.echo(path)


def autograder(
    out: Annotated[Path, typer.Argument(help="The zip file to upload.")],
    exercise: Annotated[str, typer.Option(help="Which exercise, such as ex01: an assignment of Gradescope each.")],
    hidden: Annotated[
        str, typer.Option(help="When students see hidden checks: after_published, after_due_date or visible.")
    ] = "after_published",
):
    """Write OUT, the zip that Gradescope takes as the autograder of one exercise.

    It holds the answers and, if EXERCISES_SECRET is set, that secret: upload it and give it to nobody.
    """
    try:
        (name,) = chosen_exercises([exercise])
        write_autograder(out, name, hidden)
    except (ValueError, OSError) as error:
        refuse(f"Cannot make the autograder: {error}")
    typer.echo(out)
