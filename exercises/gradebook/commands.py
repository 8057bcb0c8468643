"""The commands `python -m exercises course` and `gradebook`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from refimpl.files import write_atomically

from ..checking.commands import Names, chosen_exercises, refuse
from ..grading.commands import say
from ..grading.table import csv_text, read_csv
from .book import make_book
from .exports import tables
from .pages import class_page, student_pages, uploads
from .roster import COLUMNS, DECISIONS, TIMES
from .settings import read_course

TEMPLATE = Path(__file__).with_name("course.toml")


def course(
    out: Annotated[Path, typer.Argument(help="Folder for course.toml and the tables beside it.")],
    exercise: Names = None,
    graded: Annotated[
        Path | None, typer.Option(help="What `grade` wrote; its students are put into roster.csv. Default: none.")
    ] = None,
):
    """Write what the gradebook needs, for you to edit: course.toml, roster.csv, overrides.csv and times.csv.

    A file that is there is kept.
    """
    try:
        names = chosen_exercises(exercise)
        found = {row["student"] for row in read_csv(graded / "grades.csv", ("student",))} if graded else ()
        files = {
            "course.toml": TEMPLATE.read_text(encoding="utf-8") + "".join(map(_part, names)),
            "roster.csv": csv_text(COLUMNS, [{"id": student} for student in sorted(found)]),
            "overrides.csv": csv_text(DECISIONS, []),
            "times.csv": csv_text(TIMES, []),
        }
        for name, text in files.items():
            fresh = not (out / name).exists()
            if fresh:
                write_atomically(out / name, text)
            typer.echo(f"{out / name}{'' if fresh else ' (kept as it is)'}")
    except (ValueError, OSError) as error:
        refuse(f"Cannot set up the course: {error}")


def gradebook(
    graded: Annotated[Path, typer.Argument(help="The folder that `grade --out` wrote.")],
    settings: Annotated[Path, typer.Option("--course", help="The course's settings.")] = Path("course.toml"),
    out: Annotated[Path | None, typer.Option(help="Where the files go. Default: gradebook in GRADED.")] = None,
):
    """Put grades, roster, late days and your decisions together, and write what you hand on.

    OUT gets gradebook.csv, import files for Canvas, Moodle and Gradescope, class.html, which says what the class failed
    most, and each student's page in feedback/ and feedback.zip. Nothing is graded and no file of yours is changed.

    Exit code: 0 all is well, 1 something needs a look (it is said what), 2 it cannot be made.
    """
    out = out or graded / "gradebook"
    try:
        book = make_book(graded, read_course(settings))
        pages = student_pages(book)
        files = tables(book) | {f"feedback/{name}": text for name, text in pages.items()} | uploads(book, pages)
        files["class.html"] = _class_page(book)
        for name, data in files.items():
            write_atomically(out / name, data)
    except FileNotFoundError as error:
        writes = "grade" if Path(error.filename).name == "grades.csv" else "course"
        refuse(f"Cannot make the gradebook: there is no {error.filename}; `python -m exercises {writes}` writes it")
    except (ValueError, OSError) as error:
        refuse(f"Cannot make the gradebook: {error}")
    console = Console(stderr=True, highlight=False)
    for warning in book.warnings:
        say(console, f"Look at this: {warning}")
    say(console, f"Students: {len(book.listed)}; exercises: {len(book.exercises)}")
    names = ", ".join(name for name in files if "/" not in name)
    say(console, f"In {out}: {names}; in feedback/ a page for each student")
    typer.echo(out / "gradebook.csv")
    raise typer.Exit(1 if book.warnings else 0)


def _class_page(book):
    try:
        return class_page(book)
    except ModuleNotFoundError:
        book.warnings.append("class.html has no figure: that needs matplotlib, which the extras course and cpu bring")
        return class_page(book, figure=False)


def _part(name):
    return f'\n[exercises.{name}]\nweight = 1\n# deadline = 2026-10-05T23:59:00\ntitle = "{name}"  # in other systems\n'
