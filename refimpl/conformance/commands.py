"""The command `python -m refimpl conformance`."""

from pathlib import Path
from typing import Annotated

import typer

from ..cli import with_options
from ..files import write_atomically
from .options import Options, keywords, retention_of
from .report import FAILED, Report
from .suite import dtypes_of, kernel_of, rows_of


@with_options(Options)
def conformance(
    *,
    retention: Annotated[
        str, typer.Argument(help="function (q, k, v, gamma, state) -> (out, state), as mypackage.module:function")
    ],
    json: Annotated[
        Path | None, typer.Option(help="file for the report as JSON; by default none is written", show_default=False)
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="stop at the first failure")] = False,
    settings,
):
    """Put a retention of yours through every check; exit with 1 if one fails, and say what mistake that usually is."""
    options = keywords(settings)
    dtypes = options.pop("dtypes", None)
    kernel, rows = kernel_of(retention_of(retention), **options), []
    for row in rows_of(kernel, dtypes_of(kernel, dtypes)):
        rows.append(row)
        typer.echo(f"{row}")
        if stop and row.verdict == FAILED:
            break
    report = Report(retention, kernel.library.name, tuple(rows))
    typer.echo(report.summary())
    if json is not None:
        write_atomically(json, report.to_json() + "\n")
    if not report.passed:
        raise typer.Exit(1)
