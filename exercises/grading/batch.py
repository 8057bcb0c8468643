"""Grades what came in, in parallel, keeps the record of it in a folder, and continues an interrupted run."""

import contextlib
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import secrets
import shutil
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from refimpl.files import write_atomically

from ..checking.catalog import load
from ..checking.key import answer_key, to_json
from ..harness.runner import describe_error
from .feedback import COLUMNS, Outcome, feedback_html, grades_csv, results_json, row
from .intake import Entry, find_entries, printable, some
from .isolation import EXERCISES
from .sandbox import StoppedError, Turns, put_questions

__all__ = ["Batch", "Entry", "OutputError", "check_output", "find_entries", "key_version"]  # two of them of intake.py

SECONDS_BETWEEN_CSV = 10.0
WAITING = 16  # submissions that may wait for their turn, so that one that takes long keeps no core idle
BYTES_EACH = 100_000  # of a graded submission's files: twice what they take
LONGEST_NOTE = 2000
GRADERS = ("checking", "grading", "harness")  # what a verdict depends on; of the answers, what matters is in the key


class OutputError(Exception):
    """The results cannot be written; the message says where and why."""


def check_output(out, submissions=1):
    """Make the folder `out` for the results of so many submissions, and try to write there; OutputError if that fails."""
    out = Path(out)
    probe = out / "results" / f".probe-{secrets.token_hex(4)}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(probe, bytes(BYTES_EACH))  # the system says only then that a disk or a quota is full
        probe.unlink()
        disk, needed = shutil.disk_usage(out), BYTES_EACH * submissions
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise OutputError(f"{out} cannot be written to: {error.strerror or error}") from None
    if disk.total and disk.free < needed:  # some shares of other machines do not say how large they are
        raise OutputError(f"{out} has {disk.free / 1e6:.0f} MB free, and the results may need {needed / 1e6:.0f} MB")
    grades = out / "grades.csv"
    if grades.exists() and _earlier_rows(grades) is None:
        raise OutputError(f"{grades} is no table of grades: move it away")


def _earlier_rows(path):
    """Return the rows of an earlier grades.csv as `_by_name` does, or None if it is something else."""
    try:
        return _by_name(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, csv.Error):
        return None


def _by_name(text):
    """Return {(student, exercise): row} of the text of a grades.csv; KeyError if it is something else."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    return {(one["student"], one["exercise"]): {name: one.get(name) or "" for name in COLUMNS} for one in rows}


def key_version(key, isolation, limits):
    """Return a hash of everything that a verdict depends on, except the submission."""
    parts = [to_json(key), isolation.name, repr(asdict(limits)), np.__version__]
    parts += [path.read_text(encoding="utf-8") for room in GRADERS for path in sorted((EXERCISES / room).glob("*.py"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Batch:
    """The grading of `entries` into the folder `out`: iterate over `run`.

    isolation, limits: see isolation.py. `reused` counts the entries that were graded before. Rows of grades.csv that are
    not of these entries stay. OutputError, from making it or from `run`: the results cannot be written.
    """

    def __init__(self, entries, out, isolation, limits, workers=None):
        self.out = Path(out)
        self.entries = [one for one in entries if self.out.resolve() not in one.path.resolve().parents]
        self.isolation, self.limits = isolation, limits
        self.workers = workers or os.cpu_count() or 1
        self.reused = 0
        self._turns = Turns(self.workers)
        check_output(self.out, len(self.entries))
        self._earlier = _earlier_rows(self.out / "grades.csv")
        self._keys = {name: answer_key(load(name)) for name in sorted({one.exercise for one in self.entries} - {""})}
        self._versions = {name: key_version(key, isolation, limits) for name, key in self._keys.items()}
        self._owners = defaultdict(set)
        for entry in self.entries:
            self._owners[entry.path].add(entry.student)
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
                if not future.cancelled() and not isinstance(future.exception(), StoppedError | OutputError):
                    self._rows[entry] = self._row(entry, future)
            self._write_csv()

    def _row(self, entry, future):
        try:
            made = future.result()
            made = made if entry.reason else row(made, (entry.folder / "feedback.html").as_posix())
        except (StoppedError, OutputError):
            raise
        except Exception as error:  # a bug of the grader, which must not affect the other submissions
            made = self._row_without_results(entry, "grader error", f"grader error: {describe_error(error)}", points="")
        note = "; ".join(filter(None, (made["note"], entry.warning)))
        note = note if len(note) <= LONGEST_NOTE else note[: LONGEST_NOTE - 1] + "…"
        return made | {"submitted": self._submitted(entry), "note": note}

    def _submitted(self, entry):
        """Return when the file changed last; "" for what is in an archive of several students, which is as old as the download."""
        with contextlib.suppress(OSError):
            if len(self._owners[entry.path]) == 1:
                return datetime.fromtimestamp(entry.path.lstat().st_mtime, UTC).isoformat(timespec="seconds")
        return ""

    def _row_without_results(self, entry, status, note, points):
        named = {"student": entry.shown, "exercise": entry.exercise, "file": printable(entry.file)}
        known = {"points": points, "most": self._most(entry.exercise)} if entry.exercise else {}
        return dict.fromkeys(COLUMNS, "") | named | known | {"status": status, "note": note}

    def _most(self, exercise):
        return sum(problem.points for problem in self._keys[exercise].problems)

    def _write_csv(self):
        rows = list(self._rows.values())
        written = _by_name(grades_csv(rows))  # with names as they stand in an earlier file
        students = {student for student, _ in written}  # of whom "nothing gradable" is known anew
        kept = (key for key in self._earlier if key not in written and (key[1] or key[0] not in students))
        self._write(self.out / "grades.csv", grades_csv([*(self._earlier[key] for key in kept), *rows]))

    def _write(self, path, text):
        try:
            write_atomically(path, text)
        except OSError:
            try:
                check_output(self.out)
            except OutputError:
                self._stop.set()  # what is graded from now on would be graded in vain
                raise
            raise  # it is this file alone

    def _results_of(self, entry):
        """Return the content of the entry's results.json; grade unless it is there for this file and key."""
        if self._stop.is_set():
            raise StoppedError
        if entry.reason:
            return self._row_without_results(entry, "nothing gradable", entry.reason, points=0)
        data, unreadable = entry.read()
        facts = {
            "submission": hashlib.sha256(data).hexdigest(),
            "key": self._versions[entry.exercise],
            "not_graded": some(entry.others),
            "files": list(entry.notes),
        }
        target = self.out / entry.folder / "results.json"
        earlier = _read_results(target, entry, facts)
        if earlier is not None and not unreadable:
            self.reused += 1
            return earlier
        outcome = self._grade(entry, data, unreadable, facts)
        text = results_json(outcome, self._most(entry.exercise))
        self._write(target.with_name("feedback.html"), feedback_html(outcome))
        self._write(target, text)  # last: if it is there, so is the rest
        return json.loads(text)

    def _grade(self, entry, data, unreadable, facts):
        key = self._keys[entry.exercise]
        notes = list(entry.notes)
        if entry.others:
            notes.append(f"several files were handed in: {printable(entry.file)} counts, not {facts['not_graded']}")
        facts |= {"isolation": self.isolation.name, "in_force": [], "seconds": 0, "versions": _versions()}
        status, report = "graded", None
        try:
            if unreadable:
                status, report = "unusable", key.report(key.failed_runs(unreadable))
                notes.append(unreadable)
            else:
                name = "submission" + entry.suffix
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
        return Outcome(entry.shown, entry.exercise, printable(entry.file), status, report, notes, facts)


def _read_results(path, entry, facts):
    """Return the results of this submission and key from an earlier run, or None."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        results = json.loads(path.read_text(encoding="utf-8"))
        extra = results["extra_data"]
        same = all(extra[name] == value for name, value in facts.items())
        same = same and (extra["file"], extra["student"]) == (printable(entry.file), entry.shown)
        page = path.with_name("feedback.html").is_file()
        if same and page and extra["status"] != "grader error":
            row(results, "")  # raises unless all that grades.csv needs is there
            return results
    return None


def _versions():
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "retnet-reference": importlib.metadata.version("retnet-reference"),
    }
