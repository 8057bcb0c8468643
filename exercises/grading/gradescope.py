"""Grades the submission of one student where Gradescope runs it: `python -m exercises.grading.gradescope` in its folder.

Read: source/settings.json, submission/, submission_metadata.json. Written: results/results.json. What Gradescope documents:
https://gradescope-autograders.readthedocs.io/en/latest/specs/ and .../submission_metadata/.
"""

import json
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from refimpl.files import write_atomically

from ..checking.report import more_hidden
from ..checking.secret import VARIABLE
from ..harness.runner import several
from .batch import Batch
from .intake import find_entries
from .isolation import Limits
from .sandbox import choose_isolation

SETTINGS = "settings.json"
# Gradescope's word for when students see the hidden checks, and ours for the student.
WHEN = {
    "after_published": "are shown when grades are published",
    "after_due_date": "are shown after the due date",
    "visible": "are shown now",
}


def main(root="."):
    """Grade what is in `root`/submission; return 0, or 1 if the grader failed: then there are no results."""
    root = Path(root)
    settings = json.loads((root / "source" / SETTINGS).read_text(encoding="utf-8"))
    if settings["secret"]:
        os.environ[VARIABLE] = settings["secret"]
    student = submitter(root / "submission_metadata.json")
    row, results = graded(root / "submission", settings["exercise"], student)
    if row["status"] == "grader error":
        print(row["note"])  # Gradescope shows what is printed to instructors alone
        return 1
    text = json.dumps(for_gradescope(row, results, settings["hidden"]), indent=1)
    write_atomically(root / "results" / "results.json", text)
    return 0


def submitter(metadata):
    """Return who handed in, as Gradescope's file says: addresses, joined by commas; "student" if it does not say."""
    try:
        users = json.loads(Path(metadata).read_text(encoding="utf-8"))["users"]
        return ", ".join(user["email"] for user in users) or "student"
    except (OSError, ValueError, KeyError, TypeError):
        return "student"


def graded(submission, exercise, student):
    """Return (row of grades.csv, content of results.json or None if nothing can be graded) of the files in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        # In a folder of its own, a student's file is nobody else's, whatever its name is.
        shutil.copytree(submission, Path(folder, "in", "student"), symlinks=True)
        entries, _ = find_entries(Path(folder, "in"), [exercise])
        *others, entry = sorted(entries, key=lambda one: not one.reason)
        others = [*entry.others, *(one.file for one in others if not one.reason)]
        entry = replace(entry, student=student, exercise=exercise, others=tuple(others))
        batch = Batch([entry], Path(folder, "out"), choose_isolation(), Limits(), workers=1)
        ((_, row),) = batch.run()
        path = batch.out / entry.folder / "results.json"
        return row, json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def for_gradescope(row, results, hidden):
    """Return the content of results.json for Gradescope, which adds the points of the tests up itself.

    Until the hidden checks are shown, no text and no number outside of them depends on what they gave: Gradescope keeps the
    total back then, too. hidden: a key of `WHEN`.
    """
    if results is None:
        return {"score": 0, "output": f"Nothing can be graded: {row['note']}", "tests": []}
    tests = [
        test | ({} if test["visibility"] == "visible" else {"visibility": hidden, "name": f"{test['name']} (hidden)"})
        for test in results["tests"]
    ]
    shown = [test for test in tests if test["visibility"] == "visible"]
    points, most = (sum(test[name] for test in shown) for name in ("score", "max_score"))
    lines = [f"{points:g} of {several(most, 'point')} in the checks that you see now."]
    if rest := sum(test["max_score"] for test in tests) - most:
        lines.append(f"{more_hidden(rest)}, which {WHEN[hidden]}.")
    lines += [f"Note: {note}" for note in results["extra_data"]["notes"]]
    kept = {name: results[name] for name in ("output_format", "stdout_visibility", "extra_data")}
    return kept | {"output": "\n".join(lines), "tests": tests}


if __name__ == "__main__":
    sys.exit(main())
