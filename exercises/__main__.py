"""The command line: python -m exercises list | check FILE | release OUT | grade FOLDER --out DIR."""

import signal
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from . import exercise_names, load
from .checking.key import choose
from .checking.prompt import check_own
from .checking.report import styled_lines
from .grading.batch import Batch, find_entries
from .grading.isolation import IsolationError, Limits
from .grading.sandbox import CHOICES, choose_isolation
from .handout.release import write_nbgrader, write_release
from .harness.submission import UnusableError

LIMITS_ALONE = ". README.md in exercises says what that does not protect against; bubblewrap would."
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
    files of people you do not know; `grade` is for those. Of the file only the functions and the imports,
    definitions and assignments they need are run.

    Exit code: 0 everything passes, 1 something does not, 2 the file cannot be checked.
    """
    try:
        report, notes = check_own(file, exercise)
    except (UnusableError, ValueError) as error:
        _refuse(f"Cannot check: {error}")
    console = Console(highlight=False)
    for line, style in styled_lines(report, console.width):
        console.print(Text(line, STYLES[style]), soft_wrap=True)
    for note in notes:
        console.print(Text(f"Note: {note}"), soft_wrap=True)
    raise typer.Exit(0 if report.passed else 1)


@app.command("release")
def release_exercises(
    out: Annotated[Path, typer.Argument(help="A folder that is new or empty.")],
    exercise: Annotated[
        list[str] | None, typer.Option(help="One exercise, such as ex01; may be repeated. Default: all.")
    ] = None,
    nbgrader: Annotated[bool, typer.Option(help="Write the lecturer's notebooks for nbgrader instead.")] = False,
):
    """Write the students' version into OUT: no solution and no hidden check is in it.

    With --nbgrader OUT gets source/exNN/*.ipynb for `nbgrader generate_assignment`, which takes the
    hidden tests out again.
    """
    try:
        names = [choose("exercise", name, exercise_names()) for name in exercise or exercise_names()]
        written = write_nbgrader(out, names) if nbgrader else write_release(out, names)
    except (ValueError, OSError) as error:
        _refuse(f"Cannot release: {error}")
    for path in written:
        typer.echo(path)


@app.command("grade")
def grade_folder(
    folder: Annotated[Path, typer.Argument(help="Submissions: STUDENT/exNN*.ipynb or STUDENT_exNN*.ipynb, or .py.")],
    out: Annotated[Path, typer.Option(help="Where results go; the same folder again takes up where it was.")],
    exercise: Annotated[
        list[str] | None, typer.Option(help="One exercise, such as ex01; may be repeated. Default: all.")
    ] = None,
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

    Exit code: 0 all are graded, 1 the grader failed on some, 2 it cannot start, 130 it was stopped.
    """
    limits = Limits(cpu_seconds=cpu_seconds, seconds=seconds, total_seconds=total_seconds)
    try:
        names = [choose("exercise", name, exercise_names()) for name in exercise or exercise_names()]
        choose("isolation", isolation, CHOICES)
        entries, ignored = find_entries(folder, names)
        chosen = choose_isolation(isolation)
    except (IsolationError, ValueError, OSError) as error:
        _refuse(f"Cannot grade: {error}")
    console = Console(stderr=True, highlight=False)
    _say(console, f"Isolation: {chosen.name}" + ("" if chosen.name == "bubblewrap" else LIMITS_ALONE))
    for path, reason in ignored:
        _say(console, f"Ignored {path.relative_to(folder)}: {reason}")
    for entry in (entry for entry in entries if entry.others):
        _say(console, f"{entry.student}, {entry.exercise}: {entry.path.name} counts, not {', '.join(entry.others)}")
    batch = Batch(entries, out, chosen, limits, workers)
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
                    _say(bar.console, f"{row['student']}, {row['exercise']}: {row['status']}: {row['note']}")
                bar.advance(task)
    except KeyboardInterrupt:
        _say(console, f"Stopped after {statuses.total()} of {len(entries)}. The same command goes on from here.")
        raise typer.Exit(130) from None
    counts = ", ".join(f"{statuses[status]} {status}" for status in ("graded", "unusable", "grader error"))
    _say(console, f"{len(entries)} submissions: {counts}; {batch.reused} of them graded before.")
    typer.echo(out / "grades.csv")
    raise typer.Exit(1 if statuses["grader error"] else 0)


def _say(console, line):
    """Print a line as it is; names of files and students are printable in it, and no markup."""
    console.print(Text("".join(c if c.isprintable() else "�" for c in line)), soft_wrap=True)


def _refuse(message):
    typer.echo(message, err=True)
    raise typer.Exit(2) from None


if __name__ == "__main__":
    app(prog_name="python -m exercises")
