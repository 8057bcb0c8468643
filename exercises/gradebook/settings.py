"""The settings of a course: course.toml, checked when it is read."""

import math
import tomllib
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from ..checking.catalog import exercise_names


@dataclass(frozen=True)
class Late:
    """What a late day costs; `course.toml` explains each setting."""

    free_days: int = 0
    penalty: float = 0.0
    most_days: int = 9999
    grace_minutes: float = 0.0


@dataclass(frozen=True)
class Part:
    """One exercise in the course: its share in the total, when it is due, and what other systems call it."""

    weight: float = 1.0
    deadline: datetime | None = None
    title: str = ""


@dataclass(frozen=True)
class Course:
    """The settings in `course.toml`; roster, overrides and times are paths. exercises: {name: `Part`}."""

    roster: Path
    overrides: Path | None = None
    times: Path | None = None
    timezone: str = "UTC"
    separator: str = ","
    drop: int = 0
    hidden_checks: bool = True
    late: Late = field(default_factory=Late)
    exercises: dict = field(default_factory=dict)

    def moment(self, value, what):
        """Return the datetime of a TOML date or of ISO text, in the course's time zone unless it names another.

        A day without a time means its end. ValueError, with `what` in it, for anything else.
        """
        if isinstance(value, str):
            try:
                value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
            except ValueError:
                raise ValueError(f"{what} must be a time such as 2026-10-05T23:59, got {value!r}") from None
        if type(value) is date:
            value = datetime.combine(value, time.max)
        if not isinstance(value, datetime):
            raise ValueError(f"{what} must be a date or a time, got {value!r}")
        return value if value.tzinfo else value.replace(tzinfo=zone(self.timezone))


def zone(name):
    """Return the time zone; ValueError if there is none of that name."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):
        raise ValueError(f'timezone must be a name such as "Europe/Berlin", got {name!r}') from None


def read_course(path):
    """Return the `Course` that a TOML file sets up; ValueError names the setting, what it is and what is wanted."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    for name in ("roster", "overrides", "times"):
        if not isinstance(data.get(name, ""), str):
            raise ValueError(f"{path}: {name} must be a path, got {data[name]!r}")
        data[name] = path.parent / data[name] if data.get(name) else None
    if data["roster"] is None:
        raise ValueError(f"{path}: roster must be the path of a CSV file with the columns id, email, section")
    late = _made(Late, data.pop("late", {}), f"{path}: late")
    given = data.pop("exercises", {})
    if not isinstance(given, dict) or not given:
        raise ValueError(f"{path}: exercises must name an exercise at least, such as [exercises.ex01]")
    course = _made(Course, data | {"late": late}, f"{path}")
    zone(course.timezone)
    if course.separator not in (",", ";", "\t"):
        raise ValueError(f'{path}: separator must be ",", ";" or a tab, got {course.separator!r}')
    for name, table in given.items():
        if name not in exercise_names():
            raise ValueError(f"{path}: exercises must be among {', '.join(exercise_names())}, got {name}")
        where = f"{path}: exercises.{name}"
        if isinstance(table, dict) and "deadline" in table:
            table = table | {"deadline": course.moment(table["deadline"], f"{where}.deadline")}
        course.exercises[name] = _made(Part, table, where)
    if not any(part.weight for part in course.exercises.values()):
        raise ValueError(f"{path}: exercises must have a weight above 0 somewhere")
    return course


def _made(kind, table, where):
    """Return the dataclass of a TOML table: only known names, numbers from 0 up, types as the defaults have them."""
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table, got {table!r}")
    known = {one.name: one.type for one in fields(kind)}
    for name, value in table.items():
        if name not in known:
            raise ValueError(f"{where}.{name} is no setting; there are {', '.join(known)}")
        wanted = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}.get(known[name])
        if wanted and type(value) not in wanted:
            raise ValueError(f"{where}.{name} must be of type {known[name].__name__}, got {value!r}")
        if wanted and type(value) in (int, float) and not 0 <= value < math.inf:
            raise ValueError(f"{where}.{name} must be a number from 0 up, got {value!r}")
    return kind(**table)


def days_late(over, grace_minutes):
    """Return how many days have begun in the time `over` after a deadline, 0 within the grace minutes.

    >>> [days_late(timedelta(hours=hours), 15) for hours in (0, 0.25, 0.3, 24, 24.1)]
    [0, 0, 1, 1, 2]
    """
    return 0 if over <= timedelta(minutes=grace_minutes) else math.ceil(over / timedelta(days=1))
