"""Gradescope's autograder in the layout that Gradescope documents, run in a clean folder; and what other platforms exchange."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from zoo import FULL, RIGHT, RIGHT_STEP, notebook

from exercises.checking.catalog import load
from exercises.checking.key import answer_key
from exercises.checking.secret import VARIABLE
from exercises.grading.gradescope import for_gradescope, graded, main, submitter
from exercises.grading.intake import find_entries
from exercises.handout.autograder import write_autograder
from exercises.handout.classroom import PATH
from exercises.handout.release import notebooks_of, write_release

# The fields that Gradescope documents; what is not among them it does not know.
FIELDS = {
    "score",
    "execution_time",
    "output",
    "output_format",
    "visibility",
    "stdout_visibility",
    "extra_data",
    "tests",
    "leaderboard",
}
TEST_FIELDS = {
    "score",
    "max_score",
    "status",
    "name",
    "name_format",
    "number",
    "output",
    "output_format",
    "tags",
    "visibility",
    "extra_data",
}
VISIBLE = sum(check.points for problem in load("ex01").problems for check in problem.checks if not check.hidden)
WRONG = RIGHT.replace(RIGHT_STEP, RIGHT_STEP.replace("gamma * ", ""))


@pytest.fixture
def gradescope(tmp_path, monkeypatch):
    """Grade files as Gradescope does, with no package but those of the image: returns (exit code, results.json, printed)."""

    def grade(files, hidden="after_published", secret=""):
        monkeypatch.setenv(VARIABLE, secret)
        write_autograder(tmp_path / "autograder.zip", "ex01", hidden)
        root = tmp_path / "autograder"
        shutil.rmtree(root, ignore_errors=True)
        for name in ("source", "results", "submission"):
            (root / name).mkdir(parents=True)
        with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
            archive.extractall(root / "source")
        (root / "venv").symlink_to(sys.prefix)  # what setup.sh makes
        shutil.copyfile(root / "source" / "run_autograder", root / "run_autograder")
        (root / "run_autograder").chmod(0o755)
        metadata = {
            "id": 1,
            "users": [{"email": "ann@example.org", "id": 7, "name": "Ann"}],
            "previous_submissions": [],
        }
        (root / "submission_metadata.json").write_text(json.dumps(metadata))
        for name, data in files.items():
            (root / "submission" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "submission" / name).write_bytes(data)
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(
            [root / "run_autograder"],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        path = root / "results" / "results.json"
        return done.returncode, json.loads(path.read_text()) if path.exists() else None, done.stdout + done.stderr

    return grade


def shown_to_students(results):
    """What a student sees before anything is published: the text on top, and the tests that are visible."""
    return results["output"], [test for test in results["tests"] if test["visibility"] == "visible"]


def test_a_submission_is_graded_in_a_clean_folder(gradescope):
    code, results, printed = gradescope({"ex01_mine.ipynb": notebook(RIGHT)})
    assert code == 0, printed
    assert set(results) <= FIELDS
    assert all(set(test) <= TEST_FIELDS for test in results["tests"])
    assert sum(test["score"] for test in results["tests"]) == FULL
    assert results["extra_data"]["student"] == "ann@example.org"
    assert results["extra_data"]["status"] == "graded"
    assert not results["extra_data"]["notes"]
    assert {test["visibility"] for test in results["tests"]} == {"visible", "after_published"}
    text, seen = shown_to_students(results)
    assert text.splitlines()[0] == f"{VISIBLE} of {VISIBLE} points in the checks that you see now."
    assert text.splitlines()[1].startswith(f"{FULL - VISIBLE} points more are in hidden checks, which are shown when")
    assert sum(test["score"] for test in seen) == VISIBLE


def test_hidden_points_show_when_the_lecturer_says(gradescope):
    _, results, _ = gradescope({"ex01.py": WRONG.encode()}, "after_due_date")
    tests = [test for test in results["tests"] if test["name"].endswith("(hidden)")]
    assert len(tests) == sum(check.hidden for problem in load("ex01").problems for check in problem.checks)
    assert {test["visibility"] for test in tests} == {"after_due_date"}
    assert 0 < sum(test["score"] for test in results["tests"]) < FULL


def test_nothing_on_top_depends_on_what_hidden_checks_gave():
    def results(hidden_points):
        rows = ((1, "visible"), (hidden_points, "after_published"))
        tests = [{"name": "f", "score": n, "max_score": 1, "visibility": seen} for n, seen in rows]
        facts = {"output_format": "text", "stdout_visibility": "hidden", "extra_data": {"notes": ["a note"]}}
        return facts | {"output": f"{1 + hidden_points} of 2 points", "score": 1 + hidden_points, "tests": tests}

    for hidden in ("after_published", "after_due_date"):
        none, all_of_them = (for_gradescope({}, results(points), hidden) for points in (0, 1))
        assert shown_to_students(none) == shown_to_students(all_of_them)
        assert "score" not in none
        assert "Note: a note" in none["output"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "Nothing can be graded"),
        ({"essay.pdf": b"%PDF"}, "essay.pdf"),
        ({"ex02_mine.py": b"x = 1"}, "ex02_mine.py"),
        ({"ex01.ipynb": b"no notebook"}, "is not a Jupyter notebook"),
    ],
)
def test_what_cannot_be_graded_gets_no_points_and_a_reason(files, says, tmp_path):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    results = for_gradescope(*graded(tmp_path, "ex01", "ann"), "after_published")
    assert says in results["output"]
    assert not results.get("score")
    assert not any(test["score"] for test in results["tests"])


@pytest.mark.parametrize("name", ["submissions/ann_ex01.py", "bob_ex01.py", "ex01/src/solution.py"])
def test_all_files_are_the_students_own_whatever_their_names(name, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(RIGHT)
    row, _ = graded(tmp_path, "ex01", "ann@example.org")
    assert (row["student"], row["points"], row["status"]) == ("ann@example.org", FULL, "graded")


def test_a_fault_of_the_grader_leaves_no_results(tmp_path, monkeypatch, capsys):
    """Gradescope then tells the student to ask, and the lecturer what was printed; nobody gets 0 points."""
    (tmp_path / "source").mkdir()
    settings = {"exercise": "ex01", "hidden": "visible", "secret": ""}
    (tmp_path / "source" / "settings.json").write_text(json.dumps(settings))
    row = {"status": "grader error", "note": "grader error: out of memory"}
    monkeypatch.setattr("exercises.grading.gradescope.graded", lambda *_: (row, None))
    assert main(tmp_path) == 1
    assert capsys.readouterr().out == "grader error: out of memory\n"
    assert not (tmp_path / "results").exists()


def test_setup_installs_what_the_course_needs(tmp_path):
    """setup.sh runs with programs that only say how they were called."""
    files = write_autograder(tmp_path / "a.zip", "ex01")
    source, programs = tmp_path / "autograder" / "source", tmp_path / "programs"
    source.mkdir(parents=True)
    programs.mkdir()
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    say = f'#!/bin/sh\necho "$(basename "$0") $*" >> {tmp_path}/calls\n'
    python = say + f'[ "$2" = venv ] && mkdir -p "$3/bin" && cp "{programs}/python3" "$3/bin/python"; exit 0\n'
    for name, text in {"apt-get": say, "python3": python}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    done = subprocess.run(["bash", source / "setup.sh"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text()
    assert "apt-get install -y bubblewrap" in calls
    assert f"--python {sys.version_info.major}.{sys.version_info.minor} venv" in calls
    assert "-r source/requirements.txt" in calls
    assert source.stat().st_mode & 0o077 == 0
    lines = files["requirements.txt"].decode().split()
    assert {line.partition("==")[0] for line in lines} >= {"numpy", "typer"}
    assert all("==" in line for line in lines)


def test_the_zip_is_the_same_each_time_and_holds_the_scripts_at_its_root(tmp_path):
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    write_autograder(one, "ex01")
    write_autograder(two, "ex01")
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        for name in ("setup.sh", "run_autograder"):
            assert archive.getinfo(name).external_attr >> 16 == 0o755
            assert archive.read(name).startswith(b"#!/usr/bin/env bash\n")


def test_who_handed_in(tmp_path):
    file = tmp_path / "submission_metadata.json"
    assert submitter(file) == "student"
    for text in ("no JSON", "[]", '{"users": []}', '{"users": [{}]}', '{"users": null}'):
        file.write_text(text)
        assert submitter(file) == "student"
    file.write_text('{"users": [{"email": "a@b.org"}, {"email": "c@d.org"}]}')
    assert submitter(file) == "a@b.org, c@d.org"


def test_the_workflow_of_github_classroom(tmp_path):
    """Every step's command passes or fails in the release as its function does, and the points are those of visible checks."""
    write_release(tmp_path / "ex01-ann", ["ex01"], classroom=True)
    release = tmp_path / "ex01-ann"
    job = yaml.safe_load((release / PATH).read_text())["jobs"]["check"]
    graders = {step["id"]: step["with"] for step in job["steps"] if "id" in step}
    problems = answer_key(load("ex01")).visible().problems
    assert {name: step["max-score"] for name, step in graders.items()} == {
        f"ex01_{problem.function}": sum(check.points for check in problem.checks) for problem in problems
    }
    report = job["steps"][-1]
    assert report["with"]["runners"].split(",") == list(graders)
    assert report["env"] == {f"{one.upper()}_RESULTS": f"${{{{ steps.{one}.outputs.result }}}}" for one in graders}

    (path,) = notebooks_of("ex01")
    (release / path.name).write_bytes(notebook(RIGHT.replace("def retention_loop", "def another")))
    environment = {"PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin", "PYTHONSAFEPATH": ""}
    codes = {
        name: subprocess.run(
            ["sh", "-c", step["command"]], cwd=release, env=environment, capture_output=True, timeout=120, check=False
        ).returncode
        for name, step in graders.items()
    }
    assert codes == {name: int(name == "ex01_retention_loop") for name in graders}
    # What `gh classroom clone student-repos` leaves is what `grade` takes.
    entries, _ = find_entries(tmp_path, ["ex01"])
    assert [(entry.student, entry.file, entry.reason) for entry in entries] == [("ex01-ann", path.name, "")]


def test_grade_takes_what_nbgrader_collects(tmp_path):
    """{submitted}/{student_id}/{assignment_id}/{notebook_id}.ipynb, as nbgrader's documentation says."""
    (path,) = notebooks_of("ex01")
    for student in ("ann", "bob"):
        folder = tmp_path / "submitted" / student / "ex01"
        folder.mkdir(parents=True)
        (folder / path.name).write_bytes(notebook(RIGHT))
        (folder / "timestamp.txt").write_text("2026-01-30 10:30:47 UTC")
    entries, _ = find_entries(tmp_path / "submitted", ["ex01"])
    assert [(entry.student, entry.reason) for entry in entries] == [("ann", ""), ("bob", "")]


def otter_zip(path, name):
    """A student's zip of grader.export: the notebook, otter's log, which is not read, and the name of the zip."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, notebook(RIGHT))
        archive.writestr(".OTTER_LOG", b"\x80\x04")
        archive.writestr("__zip_filename__", "x.zip")


def test_grade_takes_what_otter_exports_from_canvas(tmp_path):
    (path,) = notebooks_of("ex01")
    otter_zip(tmp_path / f"leeann_1234_56789_{path.stem}_2026_01_30T10_30_47_123456.zip", path.name)
    entries, _ = find_entries(tmp_path, ["ex01"])
    assert [(entry.student, entry.exercise, entry.reason) for entry in entries] == [("leeann_1234", "ex01", "")]
    assert entries[0].read() == (notebook(RIGHT), "")


def test_the_autograder_takes_what_otter_exports(tmp_path):
    (path,) = notebooks_of("ex01")
    otter_zip(tmp_path / f"{path.stem}_2026_01_30T10_30_47_123456.zip", path.name)
    row, _ = graded(tmp_path, "ex01", "ann@example.org")
    assert (row["student"], row["points"], row["status"]) == ("ann@example.org", FULL, "graded")
