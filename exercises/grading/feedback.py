"""The files on a graded submission: results.json in Gradescope's format, feedback.html and a row of grades.csv."""

import json
import math
from dataclasses import dataclass
from html import escape

from ..checking.report import summary, to_html
from ..harness.confine import COMPUTES_ONLY, NO_OTHER_FILES
from .table import csv_text

COLUMNS = ("student", "exercise", "points", "most", "status", "submitted")
COLUMNS += ("seconds", "isolation", "file", "note", "feedback")
PROTECTION = (NO_OTHER_FILES, COMPUTES_ONLY)  # that not every system has
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
td, th {{ padding: 0.2rem 0.6rem }}
small {{ color: #666 }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Outcome:
    """One submission after grading.

    status: "graded", "unusable" (the file could not be read) or "grader error". report: the `Report`, or None
    after a grader error. facts: for extra_data in results.json. notes: lines for the student.
    """

    student: str
    exercise: str
    file: str
    status: str
    report: object
    notes: list
    facts: dict


def results_json(outcome, most):
    """Return the text of results.json; `most` is the most points possible."""
    report, notes = outcome.report, outcome.notes
    tests = [
        _test(function, result)
        for function, results in (report.results if report else {}).items()
        for result in results
    ]
    data = {
        "score": report.points if report else 0,
        "max_score": most,
        "output": "\n".join([_closing(outcome), *(f"Note: {note}" for note in notes)]),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": outcome.facts
        | {"seconds": math.ceil(outcome.facts["seconds"])}  # a submission chooses how long its hidden checks take
        | {"not_in_force": _not_in_force(outcome.facts)}
        | {"student": outcome.student, "exercise": outcome.exercise, "file": outcome.file, "status": outcome.status}
        | {"notes": notes},
    }
    return json.dumps(data, indent=1) + "\n"


def _test(function, result):
    check = result.check
    lines = [result.reason] if result.reason else []
    if result.hint:
        lines.append(f"Hint: {result.hint}")
    return {
        "name": f"{function}: {check.name}",
        "score": result.points,
        "max_score": check.points,
        "status": "passed" if result.passed else "failed",
        "output": "\n".join(lines),
        "output_format": "text",
        "visibility": "after_published" if check.hidden else "visible",
    }


def feedback_html(outcome):
    """Return the page a student reads; all text from outside is escaped."""
    title = f"{outcome.exercise}: {outcome.student}"
    parts = [to_html(outcome.report) if outcome.report else f"<p>{escape(_closing(outcome))}</p>"]
    if outcome.notes:
        parts.append("<h2>Notes</h2>\n<ul>" + "".join(f"<li>{escape(note)}</li>" for note in outcome.notes) + "</ul>")
    facts = outcome.facts
    parts.append(
        f"<p><small>Graded: {escape(outcome.file)}, SHA-256 {escape(facts['submission'])}. "
        f"Isolation: {escape(facts['isolation'])}{escape(''.join(f'; not in force: {one}' for one in _not_in_force(facts)))}."
        "</small></p>"
    )
    return PAGE.format(title=escape(title), body="\n".join(parts))


def _not_in_force(facts):
    """Return which `PROTECTION` the system did not give; none if nothing ran."""
    return [one for one in PROTECTION if facts["in_force"] and one not in facts["in_force"]]


def _closing(outcome):
    if outcome.report is None:
        return "The grader failed on this submission. That is not your fault; it will be graded again."
    return summary(outcome.report)


def row(results, feedback):
    """Return the row of grades.csv for one results.json, as read; `feedback` is the path of its page."""
    facts = results["extra_data"]
    failed = facts["status"] == "grader error"
    return {
        "student": facts["student"],
        "exercise": facts["exercise"],
        "points": "" if failed else results["score"],
        "most": results["max_score"],
        "status": facts["status"],
        "seconds": facts["seconds"],
        "isolation": facts["isolation"],
        "file": facts["file"],
        "note": "; ".join(facts["notes"]),
        "feedback": feedback,
    }


def grades_csv(rows):
    """Return the text of grades.csv, for a spreadsheet: with a byte-order mark, and no cell is a formula."""
    return csv_text(COLUMNS, sorted(rows, key=lambda one: (one["student"], one["exercise"])))
