"""The grader: a zoo of hostile submissions changes nothing but its own results, and a killed batch goes on."""

import csv
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from zoo import FULL, RIGHT, write_zoo

import exercises
from exercises import exercise_names, load
from exercises.checking.key import answer_key
from exercises.grading.batch import Batch, Entry, find_entries, key_version
from exercises.grading.isolation import (
    CHILD_MODULES,
    Isolation,
    IsolationError,
    Limits,
    _candidates,
    _trial,
    choose_isolation,
)
from exercises.grading.sandbox import Sandbox, put_questions
from exercises.harness.runner import Run
from exercises.harness.wire import (
    MalformedError,
    call_from_bytes,
    call_to_bytes,
    frame,
    run_from_bytes,
    run_to_bytes,
)

COURSE = Path(exercises.__file__).parent
WAYS = {"bubblewrap": next(_candidates("bubblewrap")), "limits only": next(_candidates("limits"))}


@functools.cache
def why_not(way):
    return _trial(way)


@pytest.fixture(scope="module", params=WAYS)
def way(request):
    if why_not(WAYS[request.param]):
        pytest.skip(
            f"grading in {request.param} is not tested, for it does not work here: {why_not(WAYS[request.param])}"
        )
    return WAYS[request.param]


@pytest.fixture(scope="module")
def best():
    return choose_isolation()


def grade(folder, out, *options, **settings):
    command = [sys.executable, "-m", "exercises", "grade", str(folder), "--out", str(out), *map(str, options)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=COURSE.parent, check=False, **settings
    )


def rows_of(out):
    with open(out / "grades.csv", newline="", encoding="utf-8") as file:
        return {row["student"].removeprefix("'"): row for row in csv.DictReader(file)}


def results_of(out, row):
    return json.loads((out / row["feedback"]).with_name("results.json").read_text(encoding="utf-8"))


# The zoo.


@pytest.fixture(scope="module")
def graded(way, tmp_path_factory):
    """The zoo after one batch: (animals, rows, output folder, files ignored)."""
    with Sandbox(way, Limits()) as sandbox:
        if way.name != "bubblewrap" and not any("Landlock" in one for one in sandbox.in_force):
            pytest.skip("the zoo stays locked: limits alone, without Landlock, keep nobody from the course's files")
    folder = tmp_path_factory.mktemp("zoo")
    animals = write_zoo(folder, COURSE)
    before = {path: path.read_bytes() for path in COURSE.rglob("*.py")}
    entries, ignored = find_entries(folder)
    out = tmp_path_factory.mktemp("graded")
    batch = Batch(entries, out, way, Limits(cpu_seconds=1, seconds=1.5, total_seconds=5.0))
    list(batch.run())
    assert {path: path.read_bytes() for path in COURSE.rglob("*.py")} == before
    return animals, rows_of(out), out, ignored


def test_the_zoo_earns_what_it_did_and_no_more(graded):
    animals, rows, _, _ = graded
    assert len(animals) > 60
    assert set(rows) == set(animals)
    earned = {name: int(row["points"]) for name, row in rows.items()}
    assert earned == {name: animal.points for name, animal in animals.items()}
    assert {row["status"] for row in rows.values()} == {"graded", "unusable"}
    assert {row["most"] for row in rows.values()} == {str(FULL)}


def test_the_zoo_is_told_why(graded):
    animals, rows, out, _ = graded
    for name, animal in animals.items():
        results = results_of(out, rows[name])
        failed = [test for test in results["tests"] if test["status"] == "failed"]
        assert bool(failed) == (animal.points < FULL)
        text = "\n".join(test["output"] for test in failed)
        assert re.search(animal.told, text), f"{name}: {text}"
        for test in failed:
            reason = test["output"].splitlines()[0]
            assert reason, name
            assert reason.isprintable(), name


def test_results_are_gradescope_s_and_say_the_isolation(graded, way):
    _, rows, out, _ = graded
    for row in rows.values():
        results = results_of(out, row)
        assert {"score", "max_score", "output", "stdout_visibility", "tests", "extra_data"} <= set(results)
        assert results["score"] == sum(test["score"] for test in results["tests"])
        assert results["max_score"] == sum(test["max_score"] for test in results["tests"]) == FULL
        assert {test["visibility"] for test in results["tests"]} == {"visible", "after_published"}
        facts = results["extra_data"]
        assert facts["isolation"] == way.name == row["isolation"]
        assert {"submission", "key", "versions", "seconds"} <= set(facts)
        if facts["status"] == "graded":
            assert {"CPU time", "wall-clock time", "file size", "descriptors", "processes"} <= set(facts["in_force"])


def test_hidden_checks_show_no_values(graded):
    _, rows, out, _ = graded
    for name in (
        "gives-inputs-away",
        "gives-inputs-away-by-type",
        "swaps",
        "nan",
        "lying-array",
        "patches-numpy",
        "hostile-message",
    ):
        for test in results_of(out, rows[name])["tests"]:
            if test["visibility"] != "visible":
                reason = test["output"].splitlines()[0]
                assert not re.search(r"\d\.\d|Liar|script|X\[", reason), f"{name}: {reason}"


def test_pages_and_tables_are_safe(graded):
    _, rows, out, _ = graded
    pages = [(out / row["feedback"]).read_text(encoding="utf-8") for row in rows.values()]
    assert not any("<script" in page for page in pages)
    assert any("&lt;script&gt;alert(1)" in page for page in pages)
    assert "'=HYPERLINK(1)" in (out / "grades.csv").read_text(encoding="utf-8")
    assert {path.name for path in out.iterdir()} == {"results", "grades.csv"}
    assert len({row["feedback"] for row in rows.values()}) == len(rows)
    for row in rows.values():
        assert re.fullmatch(r"results/[A-Za-z0-9_-]+/ex01/feedback\.html", row["feedback"])


def test_what_is_no_submission_is_listed(graded):
    ignored = {path.name if path.parent.name != "right" else f"right/{path.name}": reason for path, reason in graded[3]}
    assert ignored == {
        "notes.txt": "its name is not that of a submission",
        "right/ex99.py": "there is no exercise ex99",
        "right/ex01_mine_old.py": "it is a link",
        "linked": "it is a link",
        "ex01.py": "it is not a plain file",
    }


def test_nothing_stays_behind(graded):
    deadline = time.monotonic() + 10
    while left := {
        pid for pid in descendants(os.getpid()) if "exercises.harness.child" in processes().get(pid, (0, ""))[1]
    }:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def processes():
    """{process: (its parent, its command line)}, without those that have ended and wait to be collected."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    table = re.findall(r"^ *(\d+) +(\d+) +(.*)$", listed, re.MULTILINE)
    return {int(pid): (int(parent), command) for pid, parent, command in table if "<defunct>" not in command}


def descendants(process):
    """The processes below `process`."""
    table, found = processes(), {process}
    for _ in range(6):
        found |= {pid for pid, (parent, _) in table.items() if parent in found}
    return found - {process}


# The batch.


def class_of(folder, number):
    """Write as many right submissions as that, each a different file."""
    for n in range(number):
        (folder / f"student{n:03}_ex01.py").write_text(f"{RIGHT}\n# {n}\n")
    return folder


def test_a_killed_batch_goes_on_where_it_was(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    class_of(folder, 20)
    command = [sys.executable, "-m", "exercises", "grade", str(folder), "--out", str(out)]
    process = subprocess.Popen(command, cwd=COURSE.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(done := [*out.rglob("results.json")]) < 6:
        assert process.poll() is None, "the batch ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    below = descendants(process.pid)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while left := below & set(processes()):
        assert time.monotonic() < deadline, f"these outlive the grader: {left}"
        time.sleep(0.05)
    done = {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}
    assert 6 <= len(done) < 20
    again = grade(folder, out)
    assert again.returncode == 0, again.stderr
    reused = int(re.search(r"(\d+) of them graded before", again.stderr)[1])
    assert reused == len(done)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    with open(out / "grades.csv", newline="", encoding="utf-8") as file:
        rows = [(row["student"], row["points"]) for row in csv.DictReader(file)]
    assert rows == [(f"student{n:03}", str(FULL)) for n in range(20)]
    assert len([*out.rglob("results.json")]) == len([*out.rglob("feedback.html")]) == 20


def test_an_interrupt_stops_cleanly(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    class_of(folder, 20)
    command = [sys.executable, "-m", "exercises", "grade", str(folder), "--out", str(out)]
    process = subprocess.Popen(command, cwd=COURSE.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len([*out.rglob("results.json")]) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    below = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "The same command goes on from here." in errors
    assert 3 <= len(rows_of(out)) < 20
    assert not below & set(processes())


def test_only_what_changed_is_graded_again(tmp_path, best, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    class_of(folder, 3)

    def run(limits=Limits()):  # noqa: B008
        batch = Batch(find_entries(folder)[0], out, best, limits)
        points = [row["points"] for _, row in batch.run()]
        return batch.reused, sorted(points)

    assert run() == (0, [FULL] * 3)
    assert run() == (3, [FULL] * 3)
    (folder / "student001_ex01.py").write_text("")
    assert run() == (2, [0, FULL, FULL])
    (folder / "student000_ex01_later.py").write_text(RIGHT)
    assert run() == (2, [0, FULL, FULL])
    results = out / "results" / "student002" / "ex01" / "results.json"
    results.write_text(results.read_text()[:100])  # as no crash of ours leaves it
    assert run() == (2, [0, FULL, FULL])
    assert run(Limits(seconds=5.0)) == (0, [0, FULL, FULL])


def test_a_failing_grader_fails_on_one_alone(tmp_path, best, monkeypatch):
    folder = class_of(tmp_path, 3)
    out = tmp_path / "out"

    def broken(key, name, source, *arguments):
        if b"# 1" in source:
            raise RuntimeError("the disk is on fire")
        return put_questions(key, name, source, *arguments)

    monkeypatch.setattr("exercises.grading.batch.put_questions", broken)
    rows = {row["student"]: row for _, row in Batch(find_entries(folder)[0], out, best, Limits()).run()}
    assert [row["points"] for _, row in sorted(rows.items())] == [FULL, "", FULL]
    assert rows["student001"]["status"] == "grader error"
    assert "the disk is on fire" in rows["student001"]["note"]
    assert "no fault of yours" in (out / rows["student001"]["feedback"]).read_text()
    monkeypatch.undo()
    again = Batch(find_entries(folder)[0], out, best, Limits())
    assert [row["points"] for _, row in again.run()] == [FULL] * 3
    assert again.reused == 2


def test_several_files_of_one_student(tmp_path):
    (tmp_path / "ann").mkdir()
    for name in ("ann_ex01_v2.py", "ann_ex01_v10.ipynb", "ann/ex01_v9.py", "ben_ex01.py"):
        (tmp_path / name).write_text("")
    entries, ignored = find_entries(tmp_path)
    assert ignored == []
    assert [(entry.student, entry.path.name) for entry in entries] == [("ann", "ex01_v9.py"), ("ben", "ben_ex01.py")]
    assert entries[0].others == ("ann_ex01_v2.py", "ann_ex01_v10.ipynb")
    assert [entry.path.name for entry in find_entries(tmp_path / "ann")[0]] == []


def test_names_of_files_as_they_come(tmp_path):
    for student, *names in (
        ("again", "ex01.py", "ex01 (1).py", "ex01 (2).py", "ex01-3.ipynb"),
        ("digits", "ex01²2.py", "ex01 ٣.py"),  # digits to Python, and no numbers to int()
        ("line", "EX01 ü'\",;\n x.PY"),
    ):
        (tmp_path / student).mkdir()
        for name in names:
            (tmp_path / student / name).write_text("")
    (tmp_path / "._ann_ex01.py").write_text("")
    entries, ignored = find_entries(tmp_path)
    counts = {entry.student: entry.path.name for entry in entries}
    assert counts == {"again": "ex01-3.ipynb", "digits": "ex01²2.py", "line": "EX01 ü'\",;\n x.PY"}
    assert entries[0].others == ("ex01.py", "ex01 (1).py", "ex01 (2).py")
    assert ignored == [(tmp_path / "._ann_ex01.py", "it is hidden")]


def test_a_folder_that_cannot_be_read_stops_no_batch(tmp_path, monkeypatch):
    for student in ("ann", "ben"):
        (tmp_path / student).mkdir()
        (tmp_path / student / "ex01.py").write_text("")
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "ann":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    entries, ignored = find_entries(tmp_path)
    assert [entry.student for entry in entries] == ["ben"]
    assert ignored == [(tmp_path / "ann", "it cannot be read: Permission denied")]


def test_result_folders_are_safe_and_differ():
    names = ["ann", "Ann", "ANN", "..", ".", "a/b", "a_b", "", "é", "x" * 300, "x" * 301]
    names += [Entry(name, "ex01", Path("ex01.py")).folder.parts[1].lower() for name in ("Ann", "é")]  # as a thief would
    folders = [Entry(name, "ex01", Path("ex01.py")).folder for name in names]
    assert len({str(folder).lower() for folder in folders}) == len(names)
    for folder in folders:
        assert re.fullmatch(r"results/[A-Za-z0-9_-]{1,70}/ex01", folder.as_posix())


def test_the_command_says_what_is_wrong(tmp_path):
    for options, message in (
        ([tmp_path / "nowhere"], "Cannot grade: "),
        ([tmp_path, "--exercise", "ex99"], "exercise must be one of 'ex01'"),
        ([tmp_path, "--isolation", "none"], "isolation must be one of 'auto', 'bubblewrap', 'limits', got 'none'"),
    ):
        result = grade(options[0], tmp_path / "out", *options[1:])
        assert result.returncode == 2, result.stderr
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_isolation_that_is_not_there_is_an_error_and_no_downgrade(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(IsolationError, match="no isolation by bubblewrap here: there is no bwrap"):
        choose_isolation("bubblewrap")
    assert choose_isolation("auto").name == choose_isolation("limits").name == "limits only"


def test_user_namespaces_work_without_root():
    """Root starts bubblewrap in another way; this is how everybody else does."""
    way = Isolation("bubblewrap", own_user=False, namespaces=True)
    if why_not(way):
        pytest.skip(f"bubblewrap in user namespaces does not work here: {why_not(way)}")
    key = answer_key(load("ex01"))
    given = put_questions(key, "ex01.py", RIGHT.encode(), way, Limits())
    assert key.report(given.runs).passed
    peeking = (
        f"def retention_step(q, k, v, gamma, state):\n    raise ValueError(__import__('os').listdir({str(COURSE)!r}))\n"
    )
    given = put_questions(key, "ex01.py", peeking.encode(), way, Limits())
    reason = key.report(given.runs).results["retention_step"][0].reason
    assert re.match("FileNotFoundError|PermissionError", reason), reason


# Every exercise through the isolated grader.

STAND_INS = """
class Record:
    def __init__(self, *values, **fields):
        self.values, self.fields = values, fields
Check = Record
class WrongAnswer:
    def __init__(self, name, function, message):
        self.name, self.function, self.message = name, function, message
class Problem:
    def __init__(self, function, returns, solution, checks, wrong_answers):
        self.solution, self.wrong_answers = solution, wrong_answers
class Exercise:
    def __init__(self, name, title, problems):
        self.problems = problems
"""


def as_submission(name, choose):
    """The module of an exercise as one script that ends in its functions; `choose(problem)` is the expression for each."""
    source, done = STAND_INS, set()

    def inlined(module):
        if module in done:
            return ""
        done.add(module)
        text = (COURSE / f"{module}.py").read_text(encoding="utf-8")
        neighbours = re.findall(r"^from \.(\w+) import", text, re.MULTILINE)
        before = "".join(inlined(one) for one in neighbours if one != "core")
        return before + re.sub(r"^from \.\w+ import (\([^)]*\)|[^\n]*)$", "", text, flags=re.MULTILINE)

    # In a namespace of its own, for a wrong answer may call the solution by the name that it takes here.
    source = (
        f"def _load():\n    space = {{}}\n    exec({source + inlined(name)!r}, space)\n    return space['EXERCISE']\n"
    )
    source += "_exercise = _load()\n"
    for i, problem in enumerate(load(name).problems):
        source += f"{problem.function} = _exercise.problems[{i}].{choose(problem)}\n"
    return source.encode()


@pytest.mark.parametrize("name", exercise_names())
def test_solutions_get_full_marks_in_isolation(name, way):
    key = answer_key(load(name))
    given = put_questions(key, f"{name}.py", as_submission(name, lambda _: "solution"), way, Limits())
    report = key.report(given.runs)
    assert given.notes == []
    assert [result.reason for results in report.results.values() for result in results if not result.passed] == []
    assert report.points == report.most == sum(problem.points for problem in load(name).problems)


@pytest.mark.parametrize("name", exercise_names())
def test_wrong_answers_get_their_own_message_in_isolation(name, best):
    exercise = load(name)
    key = answer_key(exercise)
    for n in range(max(len(problem.wrong_answers) for problem in exercise.problems)):
        chosen = {one.function: min(n, len(one.wrong_answers) - 1) for one in exercise.problems}
        source = as_submission(name, lambda one: f"wrong_answers[{chosen[one.function]}].function")  # noqa: B023
        report = key.report(put_questions(key, f"{name}.py", source, best, Limits()).runs)
        for problem in exercise.problems:
            wrong = problem.wrong_answers[chosen[problem.function]]
            failed = [result for result in report.results[problem.function] if not result.passed]
            assert {result.mistake for result in failed} == {wrong.name}
            assert {result.reason for result in failed} == {wrong.message}


@pytest.mark.parametrize("name", exercise_names())
def test_stubs_earn_nothing_in_isolation(name, best):
    (path,) = COURSE.glob(f"{name}_*.ipynb")
    key = answer_key(load(name))
    report = key.report(put_questions(key, path.name, path.read_bytes(), best, Limits()).runs)
    assert report.points == 0
    assert all(not result.written for results in report.results.values() for result in results)


# What crosses the wire.


def test_arrays_cross_the_wire_exactly():
    run = Run(
        (np.array([[1.5, np.nan], [np.inf, -0.0]]), np.zeros((0, 3)), np.array(2.0)),
        {"x": np.arange(3.0)},
        "",
        "",
        True,
    )
    back = run_from_bytes(run_to_bytes(run))
    for one, other in zip((*run.outputs, *run.inputs.values()), (*back.outputs, *back.inputs.values()), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.shape == other.shape
        assert other.dtype == np.float64
        assert other.flags.writeable
    inputs = {"a": np.ones((2, 0, 3), np.float32), "b": 0.1, "c": 3, "d": None, "e": np.array([1.0, 2.0], np.float16)}
    inputs["f"] = np.arange(6.0).reshape(2, 3).T
    back = call_from_bytes(*call_to_bytes(inputs))
    assert list(back) == list(inputs)
    for name, value in inputs.items():
        np.testing.assert_array_equal(back[name], value)
        assert type(back[name]) is type(value)
        assert getattr(back[name], "dtype", None) == getattr(value, "dtype", None)


RUN = {"outputs": [[2]], "inputs": {}, "failure": "", "where": "", "written": True}
MALFORMED = {
    "nothing": b"",
    "one byte": b"x",
    "no JSON": frame({})[:8] + b"xx",
    "a list": b"\0\0\0\2\0\0\0\0[]",
    "no fields": frame({}),
    "a field more": frame(RUN | {"passed": True}, bytes(16)),
    "too few numbers": frame(RUN, bytes(8)),
    "too many numbers": frame(RUN, bytes(24)),
    "half a number": frame(RUN, bytes(12)),
    "trailing bytes": frame(RUN, bytes(16)) + b"x",
    "a negative axis": frame(RUN | {"outputs": [[-2]]}, bytes(16)),
    "two negative axes": frame(RUN | {"outputs": [[-1, -2]]}, bytes(16)),
    "a true axis": frame(RUN | {"outputs": [[True, 2]]}, bytes(16)),
    "a float axis": frame(RUN | {"outputs": [[2.0]]}, bytes(16)),
    "a huge axis": frame(RUN | {"outputs": [[2**40, 0]]}),
    "a huge product": frame(RUN | {"outputs": [[10**4, 10**4]]}),
    "many axes": frame(RUN | {"outputs": [[1] * 9]}, bytes(8)),
    "many arrays": frame(RUN | {"outputs": [[0]] * 33}),
    "a text as shape": frame(RUN | {"outputs": ["ab"]}),
    "a number as failure": frame(RUN | {"failure": 3}, bytes(16)),
    "a null as written": frame(RUN | {"written": None}, bytes(16)),
    "a long claim": b"\xff" * 8,
    "deep JSON": b"\0\0\xea\x60\0\0\0\0" + b"[" * 60000,
    "a huge integer": frame(RUN)[:0] + b"\0\0\x27\x10\0\0\0\0" + b"9" * 10000,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_answers_are_refused(data):
    with pytest.raises(MalformedError):
        run_from_bytes(data)


def test_the_sandbox_sees_no_more_than_it_needs():
    sources = {name: (COURSE / "harness" / f"{name}.py").read_text(encoding="utf-8") for name in CHILD_MODULES}
    for name, source in sources.items():
        assert set(re.findall(r"^from \.(\w+) import", source, re.MULTILINE)) <= set(CHILD_MODULES), name
        assert not re.search(r"^ *(from|import) (refimpl|pickle|marshal)", source, re.MULTILINE), name


def test_versions_change_with_key_and_limits(best):
    key = answer_key(load("ex01"))
    assert key_version(key, best, Limits()) == key_version(key, best, Limits())
    assert key_version(key, best, Limits()) != key_version(key, best, Limits(seconds=9.0))
    assert key_version(key, best, Limits()) != key_version(key.visible(), best, Limits())


def test_readme_quotes_its_results_file():
    numbers = json.loads((COURSE / "results" / "class_of_300.json").read_text(encoding="utf-8"))
    readme = " ".join((COURSE / "README.md").read_text(encoding="utf-8").split())
    assert f"grades {numbers['submissions']} submissions, {numbers['hostile']} of them hostile" in readme
    assert f"it took {numbers['seconds']:.0f} s" in readme
    assert f"a normal submission {numbers['seconds_of_a_normal_submission_on_one_core']} s on one core" in readme
