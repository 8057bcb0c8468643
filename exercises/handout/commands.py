"""The command `python -m exercises release`."""

from pathlib import Path
from typing import Annotated

import typer

from ..checking.commands import Names, chosen_exercises, refuse
from .release import write_nbgrader, write_release


def release(
    out: Annotated[Path, typer.Argument(help="A folder that is new or empty.")],
    exercise: Names = None,
    nbgrader: Annotated[bool, typer.Option(help="Write the lecturer's notebooks for nbgrader instead.")] = False,
):
    """Write the students' version into OUT: no solution and no hidden check is in it.

    With --nbgrader OUT gets source/exNN/*.ipynb for `nbgrader generate_assignment`, which takes the
    hidden tests out again.
    """
    try:
        names = chosen_exercises(exercise)
        written = write_nbgrader(out, names) if nbgrader else write_release(out, names)
    except (ValueError, OSError) as error:
        refuse(f"Cannot release: {error}")
    for path in written:
        typer.echo(path)
