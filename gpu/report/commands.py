"""The command `python -m gpu report`."""

from pathlib import Path
from typing import Annotated

import typer

from ..parallel.launch import say


def report(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="folder of results files; by default gpu/results, where this package is", show_default=False
        ),
    ] = None,
):
    """Write tables and figures of all results beside them, as README.md."""
    from .page import FOLDER
    from .page import report as write_report

    for path in write_report(folder or FOLDER):
        say(f"{path}")
