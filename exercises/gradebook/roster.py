"""Who takes the course, and what the lecturer decided: the CSV files beside course.toml."""

import hashlib
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta

from ..grading.table import harmless, read_csv, same_name

COLUMNS = ("id", "email", "section")
MORE = (
    "name",
    "login",
    "canvas",
    "also",
)  # canvas: Canvas's own number; also: other names of submissions, with | between
DECISIONS = ("student", "exercise", "points", "extension", "comment")
TIMES = ("student", "exercise", "submitted")


@dataclass(frozen=True)
class Student:
    """A row of the roster. An id, an address and a login are what other systems find the student by."""

    id: str
    email: str = ""
    section: str = ""
    name: str = ""
    login: str = ""
    canvas: str = ""
    also: str = ""

    @property
    def page(self):
        """Return the file name of the student's page: the id, and where that is no safe name a hash of it too."""
        safe = re.sub(r"[^A-Za-z0-9-]", "_", self.id)
        return f"{safe if safe == self.id else safe + '-' + hashlib.sha256(self.id.encode()).hexdigest()[:8]}.html"


class Roster:
    """The students in the order of the file; `find` tells whose a name is."""

    def __init__(self, path):
        self.path, self.students = path, []
        for row in read_csv(path, COLUMNS):
            student = Student(**{name: row.get(name, "") for name in (*COLUMNS, *MORE)})
            where = f"{path}, line {row['line']}"
            if not student.id or len(student.id) > 60:
                raise ValueError(f"{where}: id must be 1 to 60 characters, got {student.id!r}")
            for name in ("id", "email", "section", "login", "canvas"):
                value = getattr(student, name)
                if harmless(value) != value:  # what systems compare cannot be changed, so it must be harmless as it is
                    raise ValueError(f"{where}: {name} must not begin as a formula does, got {value!r}")
            self.students.append(student)
        if not self.students:
            raise ValueError(f"{path} must have a row for each student, and has none")
        self._ids = {same_name(student.id): student for student in self.students}
        if len(self._ids) < len(self.students):
            twice = [one.id for one in self.students if self._ids[same_name(one.id)] is not one]
            raise ValueError(f"{path}: id must be different in each row, got twice: {', '.join(twice[:5])}")
        self._names = defaultdict(set)
        for one in self.students:
            mail = one.email.partition("@")[0]
            for name in (one.email, mail, one.name, one.login, one.canvas, *one.also.split("|")):
                self._names[same_name(name)].add(one)

    def find(self, name):
        """Return the student with this id or, if there is but one, this address, login or name; else None.

        Canvas names what it downloads after the student and Canvas's own number: lovelaceada_1234.
        """
        key = same_name(name)
        found = self._names.get(key, ()) if key else ()
        if not found and (number := re.search(r"_(\d+)$", name)):
            found = {one for one in self.students if one.canvas == number[1]}
        return self._ids.get(key) or (next(iter(found)) if len(found) == 1 else None)


@dataclass(frozen=True)
class Decision:
    """A row of overrides.csv. points: instead of the graded ones; excused: leave the exercise out of the total."""

    points: float | None = None
    excused: bool = False
    days: timedelta = timedelta()
    deadline: object = None
    comment: str = ""


def read_decisions(course, roster):
    """Return {(student's id, exercise): `Decision`}; the exercise "" stands for all, and a row for one goes before it."""
    decisions = {}
    for row, student, where in _rows(course, roster, course.overrides, DECISIONS):
        exercise = row["exercise"].lower()
        if exercise and exercise not in course.exercises:
            raise ValueError(f"{where}: exercise must be in course.toml, or empty for all, got {row['exercise']!r}")
        if (student.id, exercise) in decisions:
            raise ValueError(f"{where}: {student.id} has a row for {exercise or 'all exercises'} already")
        points, extension = row["points"].lower(), row["extension"]
        if points and not exercise:
            raise ValueError(f"{where}: points need an exercise")
        excused = points == "excused"
        days = number(extension) if extension else 0.0
        decisions[student.id, exercise] = Decision(
            None
            if excused or not points
            else _wanted(number(points), f'{where}: points must be a number, or "excused"'),
            excused,
            timedelta() if days is None else timedelta(days=days),
            course.moment(extension, f"{where}: extension (or a number of days)") if days is None else None,
            row["comment"],
        )
    return decisions


def read_times(course, roster):
    """Return {(student's id, exercise): when the submission came}, the latest if there are several.

    Someone who is not on the roster stands under the name in the file: there may be submissions of that name.
    """
    times = {}
    for row, student, where in _rows(course, roster, course.times, TIMES, strangers=True):
        key = student.id if student else row["student"], row["exercise"].lower()
        moment = course.moment(row["submitted"], f"{where}: submitted")
        times[key] = max(moment, times.get(key, moment))
    return times


def number(text):
    """Return the number from 0 up that a text is, also with a decimal comma; None if it is no such number."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def _wanted(value, what):
    if value is None:
        raise ValueError(f"{what}, from 0 up")
    return value


def _rows(course, roster, path, columns, strangers=False):
    """Yield (row, its student, where it stands) of a CSV file that may not be there."""
    for row in read_csv(path, columns) if path and path.exists() else ():
        student, where = roster.find(row["student"]), f"{path}, line {row['line']}"
        if student is None and not strangers:
            raise ValueError(f"{where}: student must be one of {roster.path}, got {row['student']!r}")
        yield row, student, where
