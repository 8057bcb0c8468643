"""What each student gets: grades.csv, the roster, the late policy and the lecturer's decisions put together."""

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from ..checking.catalog import load
from ..grading.table import read_csv
from ..harness.runner import several
from .roster import Decision, Roster, Student, number, read_decisions, read_times
from .settings import days_late

NEEDED = ("student", "exercise", "points", "most", "status", "feedback")
UNGRADED = "not graded yet"  # an exercise of which nobody's is graded
MOODLE = re.compile(r"[^/\\]+_\d+_assignsubmission_file")  # the folder of a submission as Moodle names it


@dataclass
class Cell:
    """One exercise of one student.

    earned: the points graded, None if nothing was. points: what counts, None where the exercise is left out of the total.
    status: that of grades.csv, or "missing", "not graded yet", "excused", "by hand". over: the time after the deadline;
    late: the days of it that count as late, of which `free` cost nothing. moodle: the folder that Moodle gave the file.
    """

    exercise: str
    most: float
    status: str = "missing"
    earned: float | None = None
    points: float | None = 0.0
    submitted: datetime | None = None
    over: timedelta = timedelta()
    late: int = 0
    free: int = 0
    penalty: float = 0.0
    too_late: bool = False
    dropped: bool = False
    comment: str = ""
    note: str = ""
    results: Path | None = None
    moodle: str = ""

    def remarks(self):
        """Return in words what happened to the points, for the gradebook and for the student."""
        words = [] if self.status in ("graded", UNGRADED) else [f"{self.status}{': ' if self.note else ''}{self.note}"]
        if self.late:
            words.append(f"{several(self.late, 'day')} late" + (f", {self.free} of them free" if self.free else ""))
        if self.too_late:
            words.append("too late to count")
        if self.penalty:
            words.append(f"{several(self.penalty, 'point')} off")
        if self.dropped:
            words.append("dropped")
        return "; ".join(words)


@dataclass
class Line:
    """A student, a `Cell` for each exercise, and the total in percent, None if nothing counts yet.

    note: what grades.csv says of files that belong to no exercise.
    """

    student: Student
    cells: dict
    note: str = ""
    total: float | None = None
    on_roster: bool = True


@dataclass
class Book:
    """All lines in the order of the roster, after them those of submissions that fit nobody on it; and what to tell."""

    course: object
    exercises: dict
    lines: list
    warnings: list = field(default_factory=list)

    @property
    def listed(self):
        """Return the lines of the roster alone: what other systems get."""
        return [line for line in self.lines if line.on_roster]


def make_book(graded, course):
    """Return the `Book` of a folder that `python -m exercises grade` wrote; ValueError names what does not fit."""
    roster = Roster(course.roster)
    decisions, times = read_decisions(course, roster), read_times(course, roster)
    rows, strangers = {}, {}
    for row in read_csv(Path(graded) / "grades.csv", NEEDED):
        student = roster.find(row["student"])
        place = rows if student else strangers
        place.setdefault(student or Student(row["student"]), {}).setdefault(row["exercise"].lower(), []).append(row)
    everything = [row for by in (rows, strangers) for one in by.values() for each in one.items() for row in each[1]]
    most = {name: _most(name, everything) for name in course.exercises}
    begun = {row["exercise"].lower() for row in everything} - {""}
    book = Book(course, {name: most[name] for name in course.exercises}, [])
    for student in [*roster.students, *strangers]:
        found = rows.get(student) or strangers.get(student) or {}
        stray = "; ".join(f"{row['status']}: {row.get('note', '')}" for row in found.get("", ()))
        line = Line(student, {}, stray, on_roster=student not in strangers)
        for name in course.exercises:
            cell = line.cells[name] = _cell(name, most[name], found.get(name, []), Path(graded), course)
            if name not in begun and cell.status == "missing":
                cell.status, cell.points = UNGRADED, None
            cell.submitted = times.get((student.id, name), cell.submitted)
        _apply(line, decisions, course)
        book.lines.append(line)
    _warn(book, begun, times)
    for name in sorted({name for name, _ in times} - {line.student.id for line in book.lines}):
        book.warnings.append(f"{course.times}: nobody on the roster is {name!r}")
    return book


def _most(name, rows):
    found = [number(row["most"]) for row in rows if row["exercise"].lower() == name and row["most"]]
    return max(filter(None, found), default=float(sum(problem.points for problem in load(name).problems)))


def _cell(name, most, rows, graded, course):
    """Return the `Cell` of a student's rows for one exercise: of several the one with most points counts."""
    cell = Cell(name, most)
    if not rows:
        return cell
    row = max(rows, key=lambda row: (row["status"] == "graded", number(row["points"]) or 0.0))
    cell.status, cell.earned = row["status"], number(row["points"])
    if cell.status == "grader error":
        cell.points = None
    elif cell.status == "graded" and cell.earned is None:
        raise ValueError(f"{graded / 'grades.csv'}, line {row['line']}: points must be a number, got {row['points']!r}")
    elif cell.status == "graded":
        cell.points = cell.earned
    cell.note = row.get("note", "") if cell.status != "graded" else ""
    if row.get("submitted"):
        cell.submitted = course.moment(row["submitted"], f"{graded / 'grades.csv'}, line {row['line']}: submitted")
    if row["feedback"]:
        path = (graded / row["feedback"]).with_name("results.json")
        cell.results = path if path.resolve().is_relative_to(graded.resolve()) else None
    folder = next(filter(None, (MOODLE.search(f"{value}") for value in row.values())), None)
    cell.moodle = folder[0] if folder else ""
    return cell


def _apply(line, decisions, course):
    """Apply deadlines, extensions, late days, decisions and drops to the cells of a line, and compute its total."""
    left = course.late.free_days
    dues = {name: part.deadline for name, part in course.exercises.items()}
    for name in sorted(dues, key=lambda name: (dues[name] is None, dues[name] or 0, name)):
        cell = line.cells[name]
        one, general = (
            decisions.get((line.student.id, name), Decision()),
            decisions.get((line.student.id, ""), Decision()),
        )
        cell.comment = " ".join(filter(None, (one.comment, general.comment)))
        extension = one if one.days or one.deadline else general
        due = dues[name] and (extension.deadline or dues[name] + extension.days)
        if due and cell.submitted:
            cell.over = max(timedelta(), cell.submitted - due)
        if one.points is not None or one.excused:
            cell.points, cell.status = one.points, "excused" if one.excused else "by hand"
            continue
        if not cell.points or not cell.over:
            continue
        cell.late = days_late(cell.over, course.late.grace_minutes)
        cell.too_late = cell.late > course.late.most_days
        if cell.too_late:
            cell.points = 0.0
            continue
        cell.free = min(cell.late, left)
        left -= cell.free
        cell.penalty = round(min(cell.points, (cell.late - cell.free) * course.late.penalty * cell.most), 2)
        cell.points = round(cell.points - cell.penalty, 2)
    counted = [
        cell for cell in line.cells.values() if cell.points is not None and course.exercises[cell.exercise].weight
    ]
    counted.sort(key=lambda cell: cell.points / cell.most)
    for cell in counted[: min(course.drop, len(counted) - 1)] if counted else ():
        cell.dropped = True
    weights = {cell.exercise: course.exercises[cell.exercise].weight for cell in counted if not cell.dropped}
    if weights:
        share = sum(weights[name] * line.cells[name].points / line.cells[name].most for name in weights)
        line.total = round(100 * share / sum(weights.values()), 2)


def _warn(book, begun, times):
    """Note what a lecturer should look at before handing grades on."""
    for line in book.lines:
        if not line.on_roster:
            book.warnings.append(f"{line.student.id}: handed in, but nobody on the roster: add the name under `also`")
    cells = [(line, cell) for line in book.lines for cell in line.cells.values()]
    broken = [f"{line.student.id}, {cell.exercise}" for line, cell in cells if cell.status == "grader error"]
    if broken:
        book.warnings.append(f"the grader failed on {'; '.join(broken)}: grade again, until then it does not count")
    for name in sorted(begun - set(book.exercises)):
        book.warnings.append(f"{name} is graded, but not in course.toml")
    due = {name for name, part in book.course.exercises.items() if part.deadline}
    blind = sum(cell.exercise in due and bool(cell.points) and cell.submitted is None for _, cell in cells)
    if blind:
        book.warnings.append(f"{several(blind, 'submission')} without a time in times.csv: counted as in time")
    guessed = sum(cell.late > 0 and (line.student.id, cell.exercise) not in times for line, cell in cells)
    if guessed:
        book.warnings.append(
            f"{several(guessed, 'submission')} late by the time of the file, which copying may change; a time in times.csv counts before it"
        )


def read_results(cell):
    """Return the content of the cell's results.json, or None where there is none."""
    try:
        data = json.loads(cell.results.read_text(encoding="utf-8")) if cell.results else None
        return data if isinstance(data["tests"], list) and isinstance(data["extra_data"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
