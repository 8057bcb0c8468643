"""The command `python -m gpu report`."""

from pathlib import Path

import typer

from ..parallel.launch import optional, say

Folder = optional(
    Path, "folder of results files; by default gpu/results, where this package is", parameter=typer.Argument
)


def report(
    folder: Folder = None,
):
    """Write tables and figures of all results beside them, as README.md."""
    from .page import FOLDER
    from .page import report as write_report

    for path in write_report(folder or FOLDER):
        say(f"{path}")
