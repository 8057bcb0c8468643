"""The gradebook as tables: ours, and what Canvas, Moodle and Gradescope read. README.md names where each is documented."""

import io
import zipfile

from ..grading.table import csv_text

CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
MOODLE = ("ID number", "Email address")
GRADESCOPE = ("Name", "SID", "Email", "Sections")
ROSTER = ("Name", "Email", "SID", "Section")


def tables(book):
    """Return {file name: text} of the CSV files; the first is for people, the others are for systems."""
    return {
        "gradebook.csv": gradebook(book),
        "canvas.csv": canvas(book),
        "moodle.csv": moodle(book),
        "gradescope.csv": gradescope(book),
        "gradescope_roster.csv": gradescope_roster(book),
    }


def gradebook(book):
    """Return the table for people: a row a student, exercises as columns, then the total in percent and remarks."""
    heads = {name: f"{name} (of {tidy(most)})" for name, most in book.exercises.items()}
    rows = [
        {"id": line.student.id, "name": line.student.name, "email": line.student.email, "section": line.student.section}
        | {heads[name]: tidy(cell.points) for name, cell in line.cells.items()}
        | {"total %": tidy(line.total), "remarks": remarks(line)}
        for line in book.lines
    ]
    columns = ("id", "name", "email", "section", *heads.values(), "total %", "remarks")
    return csv_text(columns, rows, separator=book.course.separator)


def remarks(line):
    """Return what happened to a student's points, in one cell."""
    words = [f"{name}: {one}" for name, cell in line.cells.items() if (one := told(cell))]
    return " | ".join(filter(None, [*words, line.note, "" if line.on_roster else "not on the roster"]))


def told(cell):
    """Return the remarks on an exercise and the lecturer's comment."""
    return ". ".join(filter(None, (cell.remarks(), cell.comment)))


def canvas(book):
    """Return Canvas's gradebook import. A title such as "Exercise 1 (123)" names the assignment that is there; EX excuses."""
    heads = titles(book)
    points = {"Student": "    Points Possible"} | {heads[name]: tidy(most) for name, most in book.exercises.items()}
    rows = [
        dict(zip(CANVAS, (_name(one), one.canvas, one.id, one.login, one.section), strict=True))
        | {heads[name]: "EX" if cell.status == "excused" else tidy(cell.points) for name, cell in line.cells.items()}
        for line in book.listed
        for one in [line.student]
    ]
    return csv_text((*CANVAS, *heads.values()), [points, *rows], mark=False)


def moodle(book):
    """Return Moodle's grade import: points and feedback of each exercise, and the total; "-" is no grade."""
    heads, rows = titles(book), []
    for line in book.listed:
        row = dict(zip(MOODLE, (line.student.id, line.student.email), strict=True))
        for name, cell in line.cells.items():
            row |= {heads[name]: tidy(cell.points, "-"), f"{heads[name]} (feedback)": told(cell)}
        rows.append(row | {"Total": tidy(line.total, "-")})
    columns = [column for head in heads.values() for column in (head, f"{head} (feedback)")]
    return csv_text((*MOODLE, *columns, "Total"), rows, mark=False)


def gradescope(book):
    """Return the table in the columns of Gradescope's own grade export, for what reads that."""
    heads, rows = titles(book), []
    for line in book.listed:
        one = line.student
        row = dict(zip(GRADESCOPE, (_name(one), one.id, one.email, one.section), strict=True))
        for name, cell in line.cells.items():
            came = f"{cell.submitted:%Y-%m-%d %H:%M:%S %z}" if cell.submitted else ""
            values = tidy(cell.points), tidy(cell.most), came, _clock(cell.over)
            row |= dict(zip(_four(heads[name]), values, strict=True))
        total = sum((cell.over for cell in line.cells.values()), start=next(iter(line.cells.values())).over * 0)
        rows.append(row | {"Total Lateness (H:M:S)": _clock(total)})
    columns = [column for head in heads.values() for column in _four(head)]
    return csv_text((*GRADESCOPE, *columns, "Total Lateness (H:M:S)"), rows, mark=False)


def gradescope_roster(book):
    """Return the roster as Gradescope imports it."""
    students = [line.student for line in book.listed]
    rows = [dict(zip(ROSTER, (_name(one), one.email, one.id, one.section), strict=True)) for one in students]
    return csv_text(ROSTER, rows, mark=False)


def titles(book):
    """Return {exercise: its name in other systems}, from course.toml; ValueError if two have the same."""
    names = {name: part.title or name for name, part in book.course.exercises.items()}
    if len(set(names.values())) < len(names):
        raise ValueError(f"course.toml: title must be different for each exercise, got {', '.join(names.values())}")
    return names


def tidy(points, nothing=""):
    """Return points without needless digits, and `nothing` for None.

    >>> tidy(7.0), tidy(7.256), tidy(None, "-")
    (7, 7.26, '-')
    """
    return nothing if points is None else int(points) if points == int(points) else round(points, 2)


def packed(files):
    """Return the bytes of a zip with {name: text}; the same files give the same bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in sorted(files.items()):
            file.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def _name(student):
    return student.name or student.id


def _four(head):
    return head, f"{head} - Max Points", f"{head} - Submission Time", f"{head} - Lateness (H:M:S)"


def _clock(over):
    seconds = int(over.total_seconds())
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
