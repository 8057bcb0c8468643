"""A graded class without grading it: grades.csv and the results of chosen wrong answers, and a course beside it."""

import json

from exercises import load
from exercises.checking.key import grade
from exercises.grading.feedback import Outcome, grades_csv, results_json, row
from exercises.grading.table import csv_text
from refimpl.files import write_atomically


def graded_row(student, points, exercise="ex01", status="graded", **more):
    """A row of grades.csv, with nothing of a submission but its points."""
    return {"student": student, "exercise": exercise, "points": points, "most": 30, "status": status} | more


def write_results(out, student, functions, exercise="ex01"):
    """Grade functions, as the grader would write that; return the row of grades.csv."""
    report = grade(load(exercise), functions)
    facts = {"seconds": 0.1, "isolation": "none", "in_force": [], "submission": "0"}
    outcome = Outcome(student, exercise, f"{exercise}.py", "graded", report, [], facts)
    text = results_json(outcome, report.most)
    path = f"results/{student}/{exercise}"
    write_atomically(out / path / "results.json", text)
    return row(json.loads(text), f"{path}/feedback.html")


def write_class(folder, rows, *, roster, settings="", overrides=(), times=(), exercises=("ex01",)):
    """Write folder/out/grades.csv and folder/course.toml with its tables; return their paths."""
    write_atomically(folder / "out" / "grades.csv", grades_csv(rows))
    write_atomically(folder / "roster.csv", csv_text(tuple(roster[0]), roster))
    columns = ("student", "exercise", "points", "extension", "comment")
    write_atomically(
        folder / "overrides.csv", csv_text(columns, [dict(zip(columns, one, strict=True)) for one in overrides])
    )
    columns = ("student", "exercise", "submitted")
    write_atomically(folder / "times.csv", csv_text(columns, [dict(zip(columns, one, strict=True)) for one in times]))
    text = 'roster = "roster.csv"\noverrides = "overrides.csv"\ntimes = "times.csv"\n' + settings
    if "exercises" not in settings:
        text += "".join(f"\n[exercises.{name}]\n" for name in exercises)
    write_atomically(folder / "course.toml", text)
    return folder / "out", folder / "course.toml"
