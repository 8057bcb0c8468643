"""Grades a folder: finds the submissions, grades them in parallel, and continues an interrupted run."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from refimpl.files import write_atomically

from ..checking.catalog import exercise_names, load
from ..checking.key import answer_key, to_json
from ..harness.runner import describe_error, one_line
from .feedback import COLUMNS, Outcome, feedback_html, grades_csv, results_json, row
from .isolation import EXERCISES
from .sandbox import StoppedError, Turns, put_questions

MOST_BYTES = 20_000_000  # of a submission: enough for a notebook with pictures
SECONDS_BETWEEN_CSV = 10.0
WAITING = 16  # submissions that may wait for their turn, so that one that takes long keeps no core idle
IN_FOLDER = re.compile(r"(?P<exercise>ex\d\d)(?!\d).*\.(py|ipynb)", re.IGNORECASE | re.DOTALL)
FLAT = re.compile(rf"(?P<student>.+?)_{IN_FOLDER.pattern}", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One file to grade: its student, exercise, path, and the names of the student's other files for that exercise."""

    student: str
    exercise: str
    path: Path
    others: tuple[str, ...] = ()

    @property
    def folder(self):
        """Return where its results go, relative to the output folder; safe whatever the student's name is."""
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", self.student)[:60]
        plain = safe and safe == self.student == safe.lower() and not re.search("-[0-9a-f]{8}$", safe)
        if not plain:  # no two names share a folder, also where case is ignored or a name looks like a hashed one
            safe += "-" + hashlib.sha256(os.fsencode(self.student)).hexdigest()[:8]
        return Path("results", safe, self.exercise)


def find_entries(folder, exercises=None):
    """Return (entries, ignored): what there is to grade in `folder`, and (path, reason) of every other file.

    A submission is folder/STUDENT/exNN*.py or .ipynb, or folder/STUDENT_exNN*.py or .ipynb. If a student has
    several files for an exercise, the last in the order of their names counts, with numbers read as numbers.
    exercises: the names to grade; by default all. Links are not followed.
    """
    known = exercise_names()
    found, ignored = {}, []
    for item, student in _files(Path(folder), ignored):
        match = IN_FOLDER.fullmatch(item.name) if student is not None else FLAT.fullmatch(item.name)
        exercise = match and match["exercise"].lower()
        if match is None:
            ignored.append((item, "its name is not that of a submission"))
        elif exercise not in known:
            ignored.append((item, f"there is no exercise {exercise}"))
        elif exercises and exercise not in exercises:
            ignored.append((item, "its exercise was not asked for"))
        else:
            found.setdefault((match["student"] if student is None else student, exercise), []).append(item)
    entries = []
    for (student, exercise), paths in sorted(found.items()):
        *others, path = sorted(paths, key=_natural)
        entries.append(Entry(student, exercise, path, tuple(other.name for other in others)))
    return entries, ignored


def _natural(path):
    parts = re.split(r"(\d+)", path.stem)  # without the suffix, so that "ex01 (1).py" comes after "ex01.py"
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], str(path)


def _files(folder, ignored):
    """Yield (path, student) of every plain file; the student is None for a file that is not in a folder."""
    for item in sorted(folder.iterdir()):
        if item.is_symlink():
            ignored.append((item, "it is a link"))
        elif item.name.startswith("._" if item.is_file() else "."):  # ._NAME is what a Mac adds to an archive
            ignored.append((item, "it is hidden"))
        elif item.is_dir():
            try:
                inside = sorted(item.iterdir())
            except OSError as error:
                ignored.append((item, f"it cannot be read: {error.strerror}"))
                continue
            for inner in inside:
                if inner.is_symlink() or not inner.is_file():
                    ignored.append((inner, "it is a link" if inner.is_symlink() else "it is not a plain file"))
                else:
                    yield inner, item.name
        elif item.is_file():
            yield item, None
        else:
            ignored.append((item, "it is not a plain file"))


def read_submission(path):
    """Return (bytes, reason): the content of a plain file, or why not."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return b"", f"the file cannot be read: {error.strerror}"
    with open(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            return b"", "it is not a plain file"
        if state.st_size > MOST_BYTES:
            return (
                b"",
                f"the file has {state.st_size / 1e6:.0f} MB, more than {MOST_BYTES / 1e6:.0f}: clear its outputs",
            )
        return file.read(MOST_BYTES), ""


def key_version(key, isolation, limits):
    """Return a hash of everything that a verdict depends on, except the submission."""
    parts = [to_json(key), isolation.name, repr(asdict(limits)), np.__version__]
    rooms = [path for path in sorted(EXERCISES.rglob("*.py")) if path.parent.name != "answers"]  # those are in the key
    parts += [path.read_text(encoding="utf-8") for path in rooms]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Batch:
    """The grading of `entries` into the folder `out`: iterate over `run`.

    isolation, limits: see isolation.py. `reused` counts the entries that were graded before.
    """

    def __init__(self, entries, out, isolation, limits, workers=None):
        self.entries, self.out = entries, Path(out)
        self.isolation, self.limits = isolation, limits
        self.workers = workers or os.cpu_count() or 1
        self.reused = 0
        self._turns = Turns(self.workers)
        self._keys = {name: answer_key(load(name)) for name in sorted({entry.exercise for entry in entries})}
        self._versions = {name: key_version(key, isolation, limits) for name, key in self._keys.items()}
        self._stop = threading.Event()
        self._rows = {}

    def run(self):
        """Grade, and yield (entry, row of grades.csv) of each when it is done; grades.csv is kept up to date."""
        pool = ThreadPoolExecutor(self.workers + WAITING)
        futures = {pool.submit(self._results_of, entry): entry for entry in self.entries}
        written = time.monotonic()
        try:
            for future in as_completed(futures):
                entry = futures[future]
                self._rows[entry] = self._row(entry, future)
                if time.monotonic() - written > SECONDS_BETWEEN_CSV:
                    self._write_csv()
                    written = time.monotonic()
                yield entry, self._rows[entry]
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)
            for future, entry in futures.items():  # finished, but not yielded
                if not future.cancelled() and not isinstance(future.exception(), StoppedError):
                    self._rows[entry] = self._row(entry, future)
            self._write_csv()

    def _row(self, entry, future):
        try:
            return row(future.result(), (entry.folder / "feedback.html").as_posix())
        except StoppedError:
            raise
        except Exception as error:  # a bug of the grader, which must not affect the other submissions
            columns = dict.fromkeys(COLUMNS, "")
            named = {
                "student": _printable(entry.student),
                "exercise": entry.exercise,
                "file": _printable(entry.path.name),
            }
            return columns | named | {"status": "grader error", "note": f"grader error: {describe_error(error)}"}

    def _write_csv(self):
        write_atomically(self.out / "grades.csv", grades_csv(self._rows.values()))

    def _results_of(self, entry):
        """Return the content of the entry's results.json; grade unless it is there for this file and key."""
        if self._stop.is_set():
            raise StoppedError
        data, unreadable = read_submission(entry.path)
        facts = {
            "submission": hashlib.sha256(data).hexdigest(),
            "key": self._versions[entry.exercise],
            "not_graded": [_printable(other) for other in entry.others],
        }
        target = self.out / entry.folder / "results.json"
        earlier = _read_results(target, entry, facts)
        if earlier is not None and not unreadable:
            self.reused += 1
            return earlier
        outcome = self._grade(entry, data, unreadable, facts)
        most = sum(problem.points for problem in self._keys[entry.exercise].problems)
        text = results_json(outcome, most)
        write_atomically(target.with_name("feedback.html"), feedback_html(outcome))
        write_atomically(target, text)  # last: if it is there, so is the rest
        return json.loads(text)

    def _grade(self, entry, data, unreadable, facts):
        key = self._keys[entry.exercise]
        notes = []
        if entry.others:
            notes.append(
                f"several files were handed in: {_printable(entry.path.name)} counts, not {', '.join(facts['not_graded'])}"
            )
        facts |= {"isolation": self.isolation.name, "in_force": [], "seconds": 0, "versions": _versions()}
        status, report = "graded", None
        try:
            if unreadable:
                status, report = "unusable", key.report(key.failed_runs(unreadable))
                notes.append(unreadable)
            else:
                name = "submission" + entry.path.suffix.lower()
                given = put_questions(key, name, data, self.isolation, self.limits, self._stop, self._turns)
                report, facts["in_force"] = key.report(given.runs), given.in_force
                facts["seconds"] = round(given.seconds, 3)
                notes += [
                    f"while reading the file: {note}" for note in given.notes
                ]  # the submission may have made it up
                if given.unusable:
                    status = "unusable"
                    notes.append(given.unusable)
        except StoppedError:
            raise
        except Exception as error:
            status, report = "grader error", None
            notes.append(f"grader error: {describe_error(error)}")
        return Outcome(
            _printable(entry.student), entry.exercise, _printable(entry.path.name), status, report, notes, facts
        )


def _read_results(path, entry, facts):
    """Return the results of this submission and key from an earlier run, or None."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        results = json.loads(path.read_text(encoding="utf-8"))
        extra = results["extra_data"]
        same = all(extra[name] == value for name, value in facts.items())
        same = same and (extra["file"], extra["student"]) == (_printable(entry.path.name), _printable(entry.student))
        page = path.with_name("feedback.html").is_file()
        if same and page and extra["status"] != "grader error":
            row(results, "")  # raises unless all that grades.csv needs is there
            return results
    return None


def _printable(name):
    """Return a file's or student's name as one printable line."""
    return one_line("".join(c if c.isprintable() else "�" for c in name)) or "�"


def _versions():
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "retnet-reference": importlib.metadata.version("retnet-reference"),
    }
