"""The commands `python -m exercises grade` and `similarity`."""

import signal
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from refimpl.files import write_atomically

from ..checking.commands import Names, chosen_exercises, refuse
from ..checking.key import choose
from ..checking.secret import VARIABLE, given
from ..harness.runner import several
from .batch import Batch, OutputError
from .intake import find_entries, printable, some
from .isolation import IsolationError, Limits
from .sandbox import CHOICES, choose_isolation
from .similarity import compare, page

LIMITS_ALONE = ". README.md in exercises says what that does not protect against; bubblewrap would."


def grade(
    folder: Annotated[
        Path, typer.Argument(help="What came in: STUDENT/exNN.ipynb, STUDENT_exNN.ipynb, or as platforms zip it.")
    ],
    out: Annotated[Path, typer.Option(help="Where results go; the same folder again takes up where it was.")],
    exercise: Names = None,
    isolation: Annotated[
        str, typer.Option(help="auto, bubblewrap or limits; auto takes bubblewrap where it works.")
    ] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Submissions at a time. 0: one a core.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Most seconds a check may take.")] = Limits.seconds,
    cpu_seconds: Annotated[int, typer.Option(min=1, help="Most seconds a check may compute.")] = Limits.cpu_seconds,
    total_seconds: Annotated[
        float, typer.Option(min=0.1, help="Most seconds a submission may take.")
    ] = Limits.total_seconds,
):
    """Grade every submission in FOLDER, isolated from the course, from the answers and from each other.

    Writes OUT/grades.csv and, for each submission, OUT/results/.../results.json (Gradescope's format) and
    feedback.html. What is graded already and has not changed is not graded again.

    Every student gets a row, "nothing gradable" with the reason if need be. Rows that are there already stay.

    Exit code: 0 all are graded, 1 nobody was, or the grader failed on some, 2 it cannot start or write, 130 it was stopped.
    """
    limits = Limits(cpu_seconds=cpu_seconds, seconds=seconds, total_seconds=total_seconds)
    try:
        names = chosen_exercises(exercise)
        choose("isolation", isolation, CHOICES)
        secret = given()
        if out.resolve() == folder.resolve():
            raise ValueError("--out must be another folder than that of the submissions")
        if not folder.exists():
            raise ValueError(f"FOLDER must hold the submissions, there is no {str(folder)!r}")
        entries, ignored = find_entries(folder, names, leave_out=out)
        if not entries:
            raise ValueError(f"nothing came in: {folder} is empty")
        chosen = choose_isolation(isolation)
        batch = Batch(entries, out, chosen, limits, workers)
    except (IsolationError, OutputError, ValueError, OSError) as error:
        refuse(f"Cannot grade: {error}")
    console = Console(stderr=True, highlight=False)
    say(console, f"Isolation: {chosen.name}" + ("" if chosen.name == "bubblewrap" else LIMITS_ALONE))
    say(console, f"Hidden inputs: varied by {VARIABLE}" if secret else "Hidden inputs: as published in the course")
    if ignored:
        say(console, f"Ignored, because hidden: {some([str(path.relative_to(folder)) for path, _ in ignored])}")
    for entry in entries:
        counts = [f"{printable(entry.file)} counts, not {some(entry.others)}"] if entry.others else []
        for line in (*counts, *entry.notes, *filter(None, [entry.warning])):
            say(console, f"{entry.shown}, {entry.exercise}: {line}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    statuses = Counter()
    try:
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
        ) as bar:
            task = bar.add_task("grading", total=len(entries))
            for _, row in batch.run():
                statuses[row["status"]] += 1
                if row["status"] != "graded":
                    say(bar.console, f"{row['student']}, {row['exercise']}: {row['status']}: {row['note']}")
                bar.advance(task)
    except KeyboardInterrupt:
        say(console, f"Stopped after {statuses.total()} of {len(entries)}. The same command goes on from here.")
        raise typer.Exit(130) from None
    except OutputError as error:
        refuse(f"Stopped after {statuses.total()} of {len(entries)}: {error}. The same command goes on from here.")
    counts = ", ".join(f"{n} {status}" for status, n in statuses.items())
    say(console, f"{several(len(entries), 'submission')}: {counts}; {batch.reused} of them graded before.")
    if not statuses["graded"]:
        say(console, "Nobody was graded.")
    typer.echo(out / "grades.csv")
    raise typer.Exit(0 if statuses["graded"] and not statuses["grader error"] else 1)


def say(console, line):
    """Print a line without markup; what is not printable in names of files and students is replaced."""
    console.print(Text("".join(c if c.isprintable() else "�" for c in line)), soft_wrap=True)


def similarity(
    folder: Annotated[Path, typer.Argument(help="What came in, as for grade.")],
    out: Annotated[Path, typer.Option(help="The folder for similarity.html.")],
    exercise: Names = None,
    top: Annotated[int, typer.Option(min=1, help="How many pairs of each exercise to show.")] = 20,
):
    """Rank pairs of submissions by how alike they are, and show them side by side in OUT/similarity.html.

    Nothing is run. What students were given does not count. It is evidence to read, and no verdict.
    """
    try:
        names = chosen_exercises(exercise)
        entries, _ = find_entries(folder, names, leave_out=out)
        pairs, notes = compare(entries, names, top)
        write_atomically(out / "similarity.html", page(pairs, notes))
    except ModuleNotFoundError as error:
        refuse(f"Cannot compare: {error.name} is not installed: pip install '.[similarity]'")
    except (ValueError, OSError) as error:
        refuse(f"Cannot compare: {error}")
    for note in notes:
        say(Console(stderr=True, highlight=False), f"Not compared: {note}")
    typer.echo(out / "similarity.html")
