"""The commands `python -m exercises new` and `validate`."""

from typing import Annotated

import typer

from ..checking.catalog import load, misnamed
from ..checking.commands import Names, chosen_exercises, refuse
from ..harness.runner import describe_error, several
from .new import write_new
from .validate import advice
from .validate import validate as find_faults


def new(
    name: Annotated[str, typer.Argument(help="ex and two digits that are free, such as ex42.")],
    title: Annotated[str, typer.Argument(help="Its title, which also names the notebook.")],
):
    """Write an exercise to start from, answers/NAME.py and its notebook: complete and small, to be changed step by step."""
    try:
        written = write_new(name, title)
    except (ValueError, OSError) as error:
        refuse(f"Cannot write the exercise: {error}")
    for path in written:
        typer.echo(path)
    typer.echo(f"Change them, and ask after each step: python -m exercises validate --exercise {name}", err=True)


def validate(exercise: Names = None):
    """Prove exercises: stubs fail kindly, solutions earn all, each wrong answer is told its name, odd answers earn nothing.

    Exit code: 0 all is well, 1 something is wrong (a line each), 2 there is no such exercise.
    """
    try:
        names = chosen_exercises(exercise)
    except ValueError as error:
        refuse(f"Cannot validate: {error}")
    faults = 0
    for name in names:
        found, advised = _of(name)
        faults += len(found)
        for line in [*found, *(f"advice: {line}" for line in advised if exercise)]:
            typer.echo(f"{name}: {line}")
        typer.echo(f"{name}: " + (f"wrong in {several(len(found), 'point')}" if found else "proven"))
    for path in misnamed():
        faults += 1
        typer.echo(f"{path}: its name is not exNN.py, so nobody finds it")
    raise typer.Exit(1 if faults else 0)


def _of(name):
    """Return (faults, advice), in lines, of what is in the file of that name, also where it cannot be loaded."""
    try:
        exercise = load(name)
    except Exception as error:  # whatever the author's code does
        return [f"answers/{name}.py cannot be loaded: {describe_error(error)}"], []
    faults = list(find_faults(exercise))
    if not faults and exercise.name != name:
        faults = [f"answers/{name}.py calls itself {exercise.name!r}: Exercise must get the name of its file"]
    return faults, [] if faults else list(advice(exercise))
